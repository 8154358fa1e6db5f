"""Addresses that take one file from a browser straight into a bucket: S3, Google Cloud Storage and Azure.

Each is for one key, for few minutes, and, where the storage can bind them, for one file's bytes. obstore signs no
headers, so it is done through the Django storage. A storage that has no key to sign with signs nothing (None).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from crunch_tasks.errors import StorageError
from crunch_tasks.files.storage import SignedPut

VALID_S = 600
"""How long after it was signed a PUT may begin, in seconds; clocks of server and storage may differ by some of it."""


@dataclass(frozen=True)
class Announced:
    """What is to be put: the key, the bytes' number and MD5 (in Base64), and their media type."""

    key: str
    size: int
    md5: str
    media_type: str

    @property
    def headers(self) -> dict[str, str]:
        """With them the storage itself refuses other bytes."""
        return {"Content-MD5": self.md5, "Content-Type": self.media_type}


Signer = Callable[[Announced], SignedPut | None]


def signs_nothing(_: Announced) -> None:
    """The Signer of a storage that cannot."""


def s3_signer(storage: Any) -> Signer:
    """Key, length, MD5 and media type are all in the signature."""

    @functools.cache
    def client() -> Any:
        from botocore.config import Config

        # The usual client signs in an older way that does not bind the length, and for an address that AWS redirects.
        config = storage.client_config
        s3 = dict(config.s3 or {})
        if not storage.endpoint_url and "." not in storage.bucket_name:
            s3["addressing_style"] = s3.get("addressing_style") or "virtual"
        return storage._create_session().client(
            "s3",
            region_name=storage.region_name,
            use_ssl=storage.use_ssl,
            endpoint_url=storage.endpoint_url,
            config=config.merge(Config(signature_version="s3v4", s3=s3 or None)),
            verify=storage.verify,
        )

    def sign(announced: Announced) -> SignedPut:
        from botocore.exceptions import BotoCoreError

        values = {
            "Bucket": storage.bucket_name,
            "Key": storage._normalize_name(announced.key),
            "ContentLength": announced.size,
            "ContentMD5": announced.md5,
            "ContentType": announced.media_type,
        }
        try:
            address = client().generate_presigned_url("put_object", Params=values, ExpiresIn=VALID_S)
        except BotoCoreError as error:
            raise _failed(error) from error
        return SignedPut(address, announced.headers)

    return sign


def gcs_signer(storage: Any) -> Signer:
    """Key, MD5 and media type are in the signature."""

    def sign(announced: Announced) -> SignedPut | None:
        from google.auth.exceptions import GoogleAuthError

        if not storage.querystring_auth:
            return None
        values = {
            "method": "PUT",
            "expiration": timedelta(seconds=VALID_S),
            "content_md5": announced.md5,
            "content_type": announced.media_type,
        }
        try:
            return SignedPut(storage.url(announced.key, parameters=values), announced.headers)
        except GoogleAuthError as error:
            raise _failed(error) from error
        except AttributeError:
            # What Google's library raises for credentials without a private key.
            return None

    return sign


def azure_signer(storage: Any) -> Signer:
    """The key is in the signature, and that nothing may be replaced; Azure compares the MD5, which the page sends."""

    def sign(announced: Announced) -> SignedPut | None:
        from azure.core.exceptions import AzureError

        if not storage.account_key and not storage.token_credential:
            return None
        try:
            address = storage.url(announced.key, expire=VALID_S, mode="c")
        except AzureError as error:
            raise _failed(error) from error
        return SignedPut(address, {**announced.headers, "x-ms-blob-type": "BlockBlob"})

    return sign


def _failed(error: Exception) -> StorageError:
    return StorageError(f"The storage gave no address to send a file to: {error}")
