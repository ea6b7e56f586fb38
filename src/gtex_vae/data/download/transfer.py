"""One attempt at an HTTP download; the bytes received stay in a `.part` file, from which the next attempt resumes.

Based on urllib, because the usual libraries do not resume: pooch (1.9) writes each attempt to a new temporary file and
deletes it on failure, and fsspec starts the file from the beginning.
"""

from __future__ import annotations

import errno
import http.client
import os
import shutil
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from email.message import Message
from typing import IO, Any

from gtex_vae import __version__
from gtex_vae.data.download.checksums import BLOCK
from gtex_vae.data.download.partial import Origin, PartialFile

TIMEOUT_S = 30.0
UNREACHABLE = frozenset({errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH})
RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class TransferError(Exception):
    """One attempt failed.

    Parameters
    ----------
    reason
        What happened, for the user.
    retry
        Whether another attempt may help.
    offline
        No server answered: another attempt helps only if the network worked a moment ago.
    wait_s
        Pause in seconds that the server asked for.
    """

    def __init__(
        self, reason: str, *, retry: bool = False, offline: bool = False, wait_s: float | None = None
    ) -> None:
        super().__init__(reason)
        self.retry = retry
        self.offline = offline
        self.wait_s = wait_s


def check_address(url: str, *, source: str | None = None) -> None:
    """Refuse addresses other than http(s), and redirects from https to http.

    Parameters
    ----------
    url
        Address to open.
    source
        Address that redirected there.

    Raises
    ------
    TransferError
        The scheme is not allowed.

    Examples
    --------
    >>> check_address("file:///etc/passwd")
    Traceback (most recent call last):
        ...
    gtex_vae.data.download.transfer.TransferError: file:///etc/passwd is neither http nor https
    """
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme not in ("http", "https"):
        via = f" (redirected there by {source})" if source else ""
        raise TransferError(f"{url} is neither http nor https{via}")
    if scheme == "http" and source is not None and urllib.parse.urlsplit(source).scheme == "https":
        raise TransferError(f"{source} redirects to the unencrypted {url}")


class _GuardedRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects only to addresses that `check_address` allows."""

    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message
    ) -> Any:
        target = headers.get("Location") or headers.get("URI")
        if target:
            check_address(urllib.parse.urljoin(req.full_url, target), source=req.full_url)
        return super().http_error_302(req, fp, code, msg, headers)  # type: ignore[arg-type]

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def transfer(
    url: str,
    partial: PartialFile,
    *,
    size: int | None,
    sha256_known: bool,
    came: Callable[[int, int | None], None],
) -> None:
    """Download what is missing from a partial file, until it is complete or the connection breaks.

    Parameters
    ----------
    url
        http(s) address.
    partial
        The partial file.
    size
        Expected size of the whole file in bytes.
    sha256_known
        Whether the checksum is known; then the server need not state the length.
    came
        Called with the bytes received so far and the size of the whole file.

    Raises
    ------
    TransferError
        The file is not complete. Problems of the local file, such as a full disk, raise `OSError`.
    """
    check_address(url)
    origin = partial.origin()
    known = origin if origin is not None and origin.url == url and origin.validator else None
    offset = partial.size if known else 0
    if known and offset and offset == known.size and size in (None, offset):
        return
    request = urllib.request.Request(url, headers={"User-Agent": f"gtex-vae/{__version__}"})  # noqa: S310
    if known and known.validator and offset:
        request.add_header("Range", f"bytes={offset}-")
        request.add_header("If-Range", known.validator)
    with _open(request, partial) as response:
        if response.status == 206:
            if not offset or known is None or not _continues(response, known, offset):
                partial.discard()
                raise TransferError("the server sent a different range than requested", retry=True)
            whole = response.length + offset if response.length is not None else known.size
        else:
            offset, whole = 0, response.length
            _check_answer(response, whole, size, sha256_known)
            partial.begin(Origin(url, _validator(response.headers), whole, _md5(response.headers)))
        _check_room(partial, (whole or 0) - offset)
        came(offset, whole)
        _append(response, partial, offset, whole, came)


def _open(request: urllib.request.Request, partial: PartialFile) -> http.client.HTTPResponse:
    """Open the connection; on failure raise a `TransferError` with its `retry` flag set."""
    try:
        return urllib.request.build_opener(_GuardedRedirects()).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        answer = f"the server answers {error.code} {_message(error.reason)}"
        if error.code == 416:
            partial.discard()
            raise TransferError(answer, retry=True) from error
        wait_s = error.headers.get("Retry-After", "")
        raise TransferError(
            answer,
            retry=error.code in RETRIED_STATUS,
            wait_s=float(wait_s) if wait_s.isdecimal() else None,
        ) from error
    except urllib.error.URLError as error:
        host = urllib.parse.urlsplit(request.full_url).netloc
        lost = (
            isinstance(error.reason, socket.gaierror) or getattr(error.reason, "errno", None) in UNREACHABLE
        )
        untrusted = isinstance(error.reason, ssl.SSLCertVerificationError)
        raise TransferError(
            f"cannot reach {host} ({_message(error.reason)})", retry=not (lost or untrusted), offline=lost
        ) from error
    except (http.client.HTTPException, OSError) as error:
        raise TransferError(f"the connection broke ({_message(error)})", retry=True) from error


def _message(error: object) -> str:
    """Return the system's message without the error number."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]


def _check_answer(
    response: http.client.HTTPResponse, whole: int | None, size: int | None, sha256_known: bool
) -> None:
    """Refuse an answer that cannot be the file, before the first byte."""
    if response.headers.get_content_type() == "text/html":
        raise TransferError(
            "the server sent a web page instead of the file, perhaps from a login page or a proxy"
        )
    if size is not None and whole is not None and whole != size:
        raise TransferError(f"the server's file has {whole} bytes instead of {size}: it is another version")
    if whole is None and not response.chunked and size is None and not sha256_known:
        raise TransferError("the server states no length, so a truncated file could not be recognized")


def _check_room(partial: PartialFile, needed: int) -> None:
    """Refuse a file that does not fit on the disk, before the first byte."""
    free = shutil.disk_usage(partial.path.parent).free
    if needed > free:
        reason = f"{os.strerror(errno.ENOSPC)} ({needed} bytes more are needed, {free} are free)"
        raise OSError(errno.ENOSPC, reason, str(partial.path))


def _append(
    response: http.client.HTTPResponse,
    partial: PartialFile,
    offset: int,
    whole: int | None,
    came: Callable[[int, int | None], None],
) -> None:
    """Write blocks as they arrive, unbuffered, so that a killed process loses nothing."""
    with open(partial.path, "ab", buffering=0) as file:
        while True:
            try:
                block = response.read1(BLOCK)
            except (http.client.HTTPException, OSError) as error:
                raise TransferError(f"the connection broke ({_message(error)})", retry=True) from error
            if not block:
                break
            # A nearly full disk writes only a part of a block and raises only at the next write.
            left = memoryview(block)
            while left:
                left = left[file.write(left) :]
            offset += len(block)
            came(offset, whole)
    if whole is not None and offset < whole:
        raise TransferError("the connection broke (closed by the server)", retry=True)


def _validator(headers: Message) -> str | None:
    """Return what identifies this version, for If-Range: a strong ETag, else the date of the last change."""
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified")


def _md5(headers: Message) -> str | None:
    """Return the MD5 of the stored object, base64, from the headers of Google's storage."""
    for value in ",".join(headers.get_all("x-goog-hash", [])).split(","):
        name, _, digest = value.strip().partition("=")
        if name == "md5":
            return digest
    return None


def _continues(response: http.client.HTTPResponse, known: Origin, offset: int) -> bool:
    """Return whether a 206 answer continues the same version."""
    unit, _, extent = response.headers.get("Content-Range", "").partition(" ")
    span, _, whole = extent.partition("/")
    etag = response.headers.get("ETag")
    same = etag is None or not str(known.validator).startswith('"') or etag == known.validator
    fits = known.size is None or whole in (str(known.size), "*")
    return unit == "bytes" and span.startswith(f"{offset}-") and same and fits
