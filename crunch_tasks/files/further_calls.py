"""The few calls to object stores that obstore has not, through the client of the Django storage.

Each is about what is in doubt or left over: one that is not answered changes nothing.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

_clients: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
_making = threading.Lock()


def s3_client(storage: Any) -> Any:
    """The boto3 client of a Django storage, one for all threads.

    The storage itself makes one for each thread, as not all that boto3 has is safe to share; a client is. Each takes a
    fifth of a second.
    """
    with _making:
        if storage not in _clients:
            _clients[storage] = storage.connection.meta.client
        return _clients[storage]


def s3_part(storage: Any, key: str) -> int | None:
    """How many bytes each part has, as far as the first two tell; None when they differ or S3 does not say."""
    first = _head(storage, key, PartNumber=1)
    if first.get("PartsCount", 1) > 2:
        second = _head(storage, key, PartNumber=2)
        if second.get("ContentLength") != first.get("ContentLength"):
            return None
    size: int | None = first.get("ContentLength")
    return size


def s3_is_encrypted(storage: Any, key: str) -> bool:
    answer = _head(storage, key)
    return answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer


def _head(storage: Any, key: str, **options: Any) -> dict[str, Any]:
    """Ask S3 through boto3 for what obstore does not tell of an object; nothing when it does not answer."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer: dict[str, Any] = s3_client(storage).head_object(
            Bucket=storage.bucket_name, Key=storage._normalize_name(key), **options
        )
    except (BotoCoreError, ClientError):
        return {}
    return answer


def s3_abort_unfinished(storage: Any, prefix: str, is_ours: Callable[[str], bool]) -> None:
    """Remove the parts of uploads below `prefix` that were begun and not completed, to keys for which `is_ours`.

    S3 keeps, and bills, the parts of a client that was killed; nobody sees them.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    client, bucket = s3_client(storage), storage.bucket_name
    below = f"{storage._normalize_name(prefix.rstrip('/'))}/"
    try:
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=below)
        for upload in [upload for page in pages for upload in page.get("Uploads", ())]:
            if is_ours(prefix + upload["Key"].removeprefix(below)):
                client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    except (BotoCoreError, ClientError):
        return


def azure_md5(storage: Any, key: str) -> str | None:
    """The Content-MD5 that Azure makes of an object sent as a whole, as obstore does not tell it."""
    from azure.core.exceptions import AzureError

    try:
        blob = storage.client.get_blob_client(storage._get_valid_path(key))
        told = blob.get_blob_properties().content_settings.content_md5
    except AzureError:
        return None
    return bytes(told).hex() if told else None
