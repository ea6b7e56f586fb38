"""Download of public releases.

releases
    Addresses and file names of each release.
download
    `fetch` and `fetch_release`: attempts, verification, messages.
transfer
    One attempt over HTTP, which resumes.
partial
    The `.part` file of an unfinished download.
checksums
    The lock file of checksums, and verification.
"""
