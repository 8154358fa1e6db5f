"""How a django-storages object becomes obstore's configuration: what matters is honoured, or refused by name.

Not honoured on purpose: what changes bytes on the way (`gzip`) and what only concerns web addresses or
django-storages' own way of transferring. An option that would change who may read an object, how it is encrypted or
where it is, and that obstore cannot express, is a SettingsError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from crunch_tasks.errors import SettingsError
from crunch_tasks.files import further_calls, signing
from crunch_tasks.files.pace import patience_for

_ATTRIBUTES = {
    "CacheControl": "Cache-Control",
    "ContentDisposition": "Content-Disposition",
    "ContentLanguage": "Content-Language",
    "ContentType": "Content-Type",
    "StorageClass": "Storage-Class",
    "cache_control": "Cache-Control",
    "content_disposition": "Content-Disposition",
    "content_language": "Content-Language",
    "content_type": "Content-Type",
    "storage_class": "Storage-Class",
}
"""Object parameters of django-storages that obstore sends under these names."""


@dataclass(frozen=True)
class Opened:
    """A bucket ready to use, by four kinds of requests.

    `asker` is for what lies there, `quick` reads what comes at once, `reader` may take long over a body, `writer` ends
    within the time-out, done or not.
    """

    description: str
    asker: Any
    quick: Any
    reader: Any
    writer: Any
    etag_is_md5: bool
    attributes: Mapping[str, str] = field(default_factory=dict)
    is_encrypted: Callable[[str], bool] = lambda _: False
    """Whether the object is encrypted so that its ETag is no MD5; asked only when a sum is in doubt."""
    content_md5: Callable[[str], str | None] = lambda _: None
    """The MD5 that the storage keeps beside an object, apart from its ETag; asked only where that tells none."""
    first_part: Callable[[str], int | None] = lambda _: None
    """How many bytes the first part of an object had; asked only when the sum of its parts is in doubt."""
    abort_unfinished: Callable[[str, Callable[[str], bool]], None] = lambda *_: None
    """Remove the parts of uploads below a prefix, to keys for which the function is true, that nobody completes."""
    sign: signing.Signer = signing.signs_nothing
    """An address for a browser's PUT."""


def open_from_django(storage: Any, timeout_s: float) -> Opened:
    """Raises SettingsError, naming the option that is missing or cannot be honoured."""
    kind = type(storage).__name__
    makers = {"S3Storage": _open_s3, "GoogleCloudStorage": _open_gcs, "AzureStorage": _open_azure}
    return makers[kind](storage, timeout_s)


def _times(timeout_s: float) -> dict[str, tuple[timedelta, float]]:
    """How long a request of each kind may take, and after how many seconds no retry of it starts any more.

    A write is over, one way or the other, after `timeout_s`, so that a lease with more time left than that covers it:
    no retry starts in the last part of it. That is two requests for an upload in parts, so each has half of the time:
    120 s of the 300 that a lease of 900 allows. In that time a part or a file of 8 MiB has to arrive, which takes a
    line of 70 kB/s; where more of them at once would need a faster one, fewer are sent at once (`parallel.Width`).
    """
    patience_s = patience_for(timeout_s)
    return {
        # A page of a listing is half a megabyte.
        "asker": (timedelta(seconds=min(60.0, timeout_s * 0.8)), patience_s / 2),
        "quick": (timedelta(seconds=patience_s), patience_s / 2),
        # What is too slow is found out by who counts what comes; this ends its connection.
        "reader": (timedelta(days=1), patience_s / 2),
        "writer": (timedelta(seconds=timeout_s * 0.4), timeout_s * 0.1),
    }


def _stores(store: Callable[..., Any], options: dict[str, Any], timeout_s: float, **arguments: Any) -> dict[str, Any]:
    backoff = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2}
    made = {}
    for kind, (request, retry_s) in _times(timeout_s).items():
        client = {**options, "timeout": request, "connect_timeout": min(request, timedelta(seconds=10))}
        retry = {"max_retries": 4, "backoff": backoff, "retry_timeout": timedelta(seconds=retry_s)}
        try:
            made[kind] = store(client_options=client, retry_config=retry, **arguments)
        except Exception as error:
            raise SettingsError(f"The storage settings cannot be used: {str(error).splitlines()[0]}") from error
    return made


def _require(value: Any, option: str) -> Any:
    if not value:
        raise SettingsError(f"The storage settings lack the option {option!r}")
    return value


def _refuse(option: str, value: Any, remedy: str) -> SettingsError:
    return SettingsError(f"The storage option {option} = {value!r} cannot be honoured: {remedy}")


def _parameters(storage: Any, also: Mapping[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Object parameters as obstore's attributes, and those in `also` as options under the names there."""
    attributes, options = {}, {}
    for name, value in dict(storage.object_parameters or {}).items():
        if name in _ATTRIBUTES:
            attributes[_ATTRIBUTES[name]] = str(value)
        elif name in also:
            options[also[name]] = value
        else:
            raise _refuse(f"object_parameters.{name}", value, "set it as a default of the bucket instead")
    return attributes, options


def _prefix(storage: Any) -> str | None:
    return storage.location.strip("/") or None


# --- S3 --------------------------------------------------------------------------------------------------------------

_S3_PARAMETERS = {
    "ServerSideEncryption": "server_side_encryption",
    "SSEKMSKeyId": "sse_kms_key_id",
    "BucketKeyEnabled": "sse_bucket_key_enabled",
    "ACL": "acl",
}


def _open_s3(storage: Any, timeout_s: float) -> Opened:
    from obstore.store import S3Store

    bucket = _require(storage.bucket_name, "bucket_name")
    attributes, options = _parameters(storage, _S3_PARAMETERS)
    acl = options.pop("acl", storage.default_acl)
    if acl not in (None, "", "private"):
        raise _refuse("default_acl", acl, "leave it out and give the bucket a policy that says who may read")
    options |= _s3_credentials(storage)
    config = storage.client_config
    s3 = dict(getattr(config, "s3", None) or {})
    for name in ("use_accelerate_endpoint", "use_dualstack_endpoint"):
        if s3.get(name):
            raise _refuse(f"client_config.s3.{name}", True, "give the endpoint as endpoint_url")
    # A signed payload would be hashed once more; whether it arrived, the sum in the answer tells.
    options["unsigned_payload"] = True
    options |= _s3_address(storage, bucket, s3.get("addressing_style"))
    stores = _stores(
        S3Store, _s3_client(storage, config, options), timeout_s, bucket=bucket, prefix=_prefix(storage), **options
    )
    encryption = str(options.get("server_side_encryption", ""))
    # A browser's PUT would not ask for another encryption than the bucket's own.
    signs = encryption in ("", "AES256") and not options.get("skip_signature")
    return Opened(
        description=f"S3 bucket {bucket}",
        **stores,
        etag_is_md5=encryption in ("", "AES256"),
        attributes=attributes,
        is_encrypted=lambda key: further_calls.s3_is_encrypted(storage, key),
        first_part=lambda key: further_calls.s3_part(storage, key),
        abort_unfinished=lambda prefix, is_ours: further_calls.s3_abort_unfinished(storage, prefix, is_ours),
        sign=signing.s3_signer(storage) if signs else signing.signs_nothing,
    )


def _s3_credentials(storage: Any) -> dict[str, Any]:
    from botocore import UNSIGNED

    version = getattr(storage.client_config, "signature_version", None)
    if version is UNSIGNED:
        return {"skip_signature": True}
    if version not in (None, "s3v4", "v4"):
        raise _refuse("signature_version", version, "only s3v4 and unsigned requests are possible")
    if storage.access_key and storage.secret_key:
        keys = {"access_key_id": storage.access_key, "secret_access_key": storage.secret_key}
        return keys | ({"session_token": storage.security_token} if storage.security_token else {})
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return {"credential_provider": Boto3CredentialProvider(storage._create_session())}
    except Exception as error:
        raise SettingsError(
            "The S3 storage has no credentials: give access_key and secret_key, or session_profile, or let the "
            f"environment provide them ({error})"
        ) from error


def _s3_address(storage: Any, bucket: str, style: str | None) -> dict[str, Any]:
    """Endpoint, region and addressing style, as botocore would choose them."""
    region = storage.region_name
    if not region and not (storage.access_key and storage.secret_key):
        region = storage._create_session().region_name
    options: dict[str, Any] = {"region": region} if region else {}
    endpoint = storage.endpoint_url
    if endpoint:
        endpoint = endpoint.rstrip("/")
        if style == "virtual":
            scheme, _, rest = endpoint.partition("://")
            endpoint = f"{scheme}://{bucket}.{rest}"
        return options | {"endpoint": endpoint, "virtual_hosted_style_request": style == "virtual"}
    if not storage.use_ssl:
        raise _refuse("use_ssl", False, "give the endpoint with http:// as endpoint_url")
    return options | {"virtual_hosted_style_request": style != "path" and "." not in bucket}


def _s3_client(storage: Any, config: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    endpoint = str(options.get("endpoint", ""))
    client: dict[str, Any] = {"allow_http": endpoint.startswith("http://")}
    if storage.verify is False:
        client["allow_invalid_certificates"] = True
    elif storage.verify:
        client["root_certificate"] = _certificates("verify", storage.verify)
    proxies = getattr(config, "proxies", None) or {}
    proxy = proxies.get("http" if client["allow_http"] else "https")
    return client | ({"proxy_url": proxy} if proxy else {})


def _certificates(option: str, path: Any) -> bytes:
    try:
        return Path(str(path)).read_bytes()
    except OSError as error:
        raise SettingsError(f"The storage option {option} names a file that cannot be read: {path}") from error


# --- Google Cloud Storage and Azure ----------------------------------------------------------------------------------


def _open_gcs(storage: Any, timeout_s: float) -> Opened:
    from obstore.store import GCSStore

    bucket = _require(storage.bucket_name, "bucket_name")
    attributes, options = _parameters(storage, {"acl": "acl"})
    acl = options.pop("acl", storage.default_acl)
    if acl not in (None, "", "private", "projectPrivate"):
        raise _refuse("default_acl", acl, "leave it out and give the bucket a policy that says who may read")
    if storage.credentials is not None:
        from obstore.auth.google import GoogleCredentialProvider

        options["credential_provider"] = GoogleCredentialProvider(storage.credentials)
    client: dict[str, Any] = {}
    if storage.custom_endpoint:
        options["base_url"] = storage.custom_endpoint
        client["allow_http"] = storage.custom_endpoint.startswith("http://")
    stores = _stores(GCSStore, client, timeout_s, bucket=bucket, prefix=_prefix(storage), **options)
    return Opened(
        f"Google Cloud Storage bucket {bucket}",
        **stores,
        etag_is_md5=True,
        attributes=attributes,
        sign=signing.gcs_signer(storage),
    )


def _open_azure(storage: Any, timeout_s: float) -> Opened:
    from obstore.store import AzureStore

    container = _require(storage.azure_container, "azure_container")
    account = _require(storage.account_name, "account_name")
    attributes, options = _parameters(storage, {})
    if storage.cache_control:
        attributes.setdefault("Cache-Control", str(storage.cache_control))
    if storage.account_key:
        options["account_key"] = storage.account_key
    elif storage.sas_token:
        options["sas_key"] = storage.sas_token
    elif storage.token_credential:
        from obstore.auth.azure import AzureCredentialProvider

        options["credential_provider"] = AzureCredentialProvider(storage.token_credential)
    protocol = "https" if storage.azure_ssl else "http"
    if storage.endpoint_suffix != "core.windows.net" or not storage.azure_ssl:
        options["endpoint"] = f"{protocol}://{account}.blob.{storage.endpoint_suffix}"
    stores = _stores(
        AzureStore,
        {"allow_http": not storage.azure_ssl},
        timeout_s,
        container_name=container,
        account_name=account,
        prefix=_prefix(storage),
        **options,
    )
    return Opened(
        f"Azure container {container}",
        **stores,
        etag_is_md5=False,
        attributes=attributes,
        content_md5=lambda key: further_calls.azure_md5(storage, key),
        sign=signing.azure_signer(storage),
    )
