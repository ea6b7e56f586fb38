"""Downloads of public files: resumed after a broken connection, verified, and cached.

The file gets its final name when it is complete and verified; until then it is `NAME.part`.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gtex_vae.data.download.checksums import LOCK_NAME, ChecksumError, DownloadLock, Expected, verify
from gtex_vae.data.download.partial import PartialFile
from gtex_vae.data.download.releases import RemoteFile, release_files
from gtex_vae.data.download.transfer import TransferError, transfer
from gtex_vae.errors import DownloadError

LONGEST_WAIT_S = 60.0

log = logging.getLogger(__name__)


def fetch(
    url: str,
    destination: Path | str,
    *,
    mirrors: Sequence[str] = (),
    sha256: str | None = None,
    size: int | None = None,
    lock: Path | str | None = None,
    attempts: int = 5,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Download one file, unless it exists and is correct.

    Without `sha256` the checksum is recorded in the lock file at the first download and verified from then on.

    Parameters
    ----------
    url
        http(s) address.
    destination
        Path of the file. A file placed there by hand is verified and recorded as well.
    mirrors
        Addresses of the same file, tried in turn until one sends data.
    sha256
        Expected hex digest.
    size
        Expected size in bytes.
    lock
        Lock file; by default `downloads.lock.json` in the folder of the destination.
    attempts
        Number of consecutive attempts without new bytes before giving up.
    sleep
        Waits the given seconds between attempts.

    Returns
    -------
    Path
        `destination`, complete and verified.

    Raises
    ------
    DownloadError
        The download failed, or the file is not the right one. An existing file at `destination` is kept.

    References
    ----------
    RFC 9110, sections 13.1.5 (If-Range) and 14 (Range requests).
    """
    destination = Path(destination)
    wanted = RemoteFile("file", destination.name, (url, *mirrors), sha256)
    ledger = DownloadLock(Path(lock) if lock else destination.parent / LOCK_NAME)
    try:
        return _obtain(wanted, destination, ledger, size=size, attempts=attempts, sleep=sleep)
    except TransferError as error:
        raise DownloadError(
            f"cannot download {wanted.name}: {_by_hand(error, [(wanted, destination)])}"
        ) from error


def fetch_release(
    release: str,
    raw_dir: Path | str,
    *,
    tissues: Sequence[str] | None = None,
    expression: str = "tpm",
    attempts: int = 5,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, list[Path]]:
    """Download the expression and annotation files of a release into `raw_dir/<release>/`.

    Parameters
    ----------
    release, tissues, expression
        As for `gtex_vae.data.download.releases.release_files`.
    raw_dir
        Folder of downloads and of the lock file, usually `data/raw`.
    attempts, sleep
        As for `fetch`.

    Returns
    -------
    dict
        Paths by kind: `expression`, `samples`, and `subjects` if the release has them in a separate file.

    Raises
    ------
    ConfigError
        No such release or tissue.
    DownloadError
        A download failed. The message lists every missing file and where to put it.
    """
    raw_dir = Path(raw_dir)
    places = [(file, raw_dir / release / file.name) for file in release_files(release, tissues, expression)]
    ledger = DownloadLock(raw_dir / LOCK_NAME)
    paths: dict[str, list[Path]] = {}
    for file, destination in places:
        try:
            path = _obtain(file, destination, ledger, size=None, attempts=attempts, sleep=sleep)
        except TransferError as error:
            missing = [(other, place) for other, place in places if not place.exists()]
            raise DownloadError(f"cannot download {file.name}: {_by_hand(error, missing)}") from error
        paths.setdefault(file.kind, []).append(path)
    return paths


def _by_hand(error: TransferError, missing: Sequence[tuple[RemoteFile, Path]]) -> str:
    """Describe which files to put where by hand if the network fails."""
    steps = [
        f"{file.urls[0]} -> {place}" + (f" (sha256 {file.sha256})" if file.sha256 else "")
        for file, place in missing
    ]
    again = "run the same command again to resume, or " if error.retry or error.offline else ""
    what = "the file" if len(steps) == 1 else f"these {len(steps)} files"
    return f"{error}; {again}download {what} by hand: {', '.join(steps)}"


def _obtain(
    file: RemoteFile,
    destination: Path,
    ledger: DownloadLock,
    *,
    size: int | None,
    attempts: int,
    sleep: Callable[[float], None],
) -> Path:
    """Verify the existing file, or download it; one process at a time."""
    from filelock import FileLock, Timeout

    if destination.exists():
        return _accept(file, destination, ledger, size)
    partial = PartialFile(destination)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        busy = destination.with_name(f".{destination.name}.lock")
        turn = FileLock(busy)
        try:
            held = turn.acquire(timeout=0)
        except Timeout:
            log.warning("%s: another process is downloading it; waiting", destination)
            held = turn.acquire()
        with held:
            if destination.exists():
                return _accept(file, destination, ledger, size)
            _download(file, destination, partial, ledger, size, attempts, sleep)
            busy.unlink(missing_ok=True)
            return destination
    except OSError as error:
        raise DownloadError(
            f"cannot write {error.filename or partial.path}: {error.strerror or error}; "
            f"the {partial.size} bytes received are kept: correct this and run the same command again to resume"
        ) from error


def _expected(file: RemoteFile, destination: Path, ledger: DownloadLock, size: int | None) -> Expected:
    """Return the checksum and size that the file must have."""
    entry = ledger.get(destination)
    if entry and entry.url not in file.urls:
        raise DownloadError(
            f"{destination} belongs to {entry.url} in {ledger.path}, not to {file.urls[0]}: "
            "use another destination, or delete the file and its entry"
        )
    if file.sha256:
        return Expected(file.sha256.lower(), size, "given")
    return (
        Expected(entry.sha256, size or entry.size, f"in {ledger.path}")
        if entry
        else Expected(None, size, "given")
    )


def _accept(file: RemoteFile, destination: Path, ledger: DownloadLock, size: int | None) -> Path:
    """Verify an existing file, and record its checksum if it was placed there by hand."""
    expected = _expected(file, destination, ledger, size)
    try:
        sha256 = verify(destination, expected)
    except ChecksumError as error:
        raise DownloadError(
            f"{destination} is damaged or another version ({error}): delete it and run the same command again to download it"
        ) from error
    except OSError as error:
        raise DownloadError(f"cannot read {destination}: {error.strerror or error}") from error
    if ledger.get(destination) is None:
        if expected.sha256 is None:
            log.warning("%s exists and is used; its checksum was not known and is recorded now", destination)
        try:
            ledger.record(destination, file.urls[0], destination.stat().st_size, sha256)
        except OSError as error:
            log.warning("%s: cannot record a checksum (%s)", ledger.path, error)
    return destination


def _download(
    file: RemoteFile,
    destination: Path,
    partial: PartialFile,
    ledger: DownloadLock,
    size: int | None,
    attempts: int,
    sleep: Callable[[float], None],
) -> None:
    """Download from the first address that has the file, record the checksum, then give the file its name."""
    expected = _expected(file, destination, ledger, size)
    for number, url in enumerate(file.urls, start=1):
        try:
            sha256 = _persist(url, partial, expected, attempts, sleep)
            break
        except TransferError as error:
            if number == len(file.urls) or partial.size:
                raise
            log.warning("%s: %s; trying %s", destination.name, error, file.urls[number])
    with open(partial.path, "rb") as whole:
        os.fsync(whole.fileno())
    # Recorded first: a job killed in between leaves a complete part and its checksum, not an unverified file.
    ledger.record(destination, url, partial.size, sha256)
    os.replace(partial.path, destination)
    partial.note.unlink(missing_ok=True)


def _persist(
    url: str, partial: PartialFile, expected: Expected, attempts: int, sleep: Callable[[float], None]
) -> str:
    """Repeat attempts until the part is complete and correct; return its sha256."""
    from tqdm import tqdm

    furthest, failures, received = partial.size, 0, False
    with tqdm(unit="B", unit_scale=True, desc=partial.path.stem, disable=None) as bar:

        def came(there: int, whole: int | None) -> None:
            if not bar.n:
                bar.initial = there
            bar.total = whole
            bar.update(there - bar.n)

        while True:
            pieced = partial.size > 0
            try:
                transfer(
                    url, partial, size=expected.size, sha256_known=expected.sha256 is not None, came=came
                )
                origin = partial.origin()
                return verify(partial.path, expected, origin.md5 if origin else None)
            except TransferError as error:
                failure, again = error, error.retry or (error.offline and received)
            except ChecksumError as error:
                # Pieces can come from different versions if the server does not identify them; a complete file cannot.
                partial.discard()
                failure, again = TransferError(f"the downloaded file is not the right one ({error})"), pieced
            if partial.size > furthest:
                furthest, failures, received = partial.size, 0, True
            else:
                failures += 1
            wait_s = failure.wait_s if failure.wait_s is not None else 2.0 ** max(failures - 1, 0)
            if not again:
                raise failure
            if failures >= attempts:
                raise TransferError(f"{failure}, {failures} times in a row", retry=True) from failure
            if wait_s > LONGEST_WAIT_S:
                raise TransferError(
                    f"{failure} and requires a wait of {wait_s:.0f} s", retry=True
                ) from failure
            log.warning("%s: %s; next attempt in %.0f s from byte %d", url, failure, wait_s, partial.size)
            sleep(wait_s)
