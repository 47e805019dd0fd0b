#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Packs files of this machine into a disk image for the test guest: pack-files.py IMAGE MIB

Real programs, libraries and documents, each beginning on a page as in a page
cache, until MIB are full. Which ones: by the hash of their path, so the same
ones again on the same machine, and a fair sample of what is installed. Nothing
is done if the image is there already in this size.
"""
import hashlib
import os
import sys

FOLDERS = ("/usr/bin", "/usr/lib", "/usr/share")
PAGE = 4096
MOST = 16 << 20  # of one file: none may make up the image


def candidates():
    """(hash, path) of regular files, each inode once."""
    seen = set()
    for folder in FOLDERS:
        for at, _, names in os.walk(folder):
            for path in (os.path.join(at, name) for name in names):
                stat = os.lstat(path)
                if os.path.islink(path) or not os.path.isfile(path) or not 0 < stat.st_size <= MOST:
                    continue
                if (stat.st_dev, stat.st_ino) not in seen:
                    seen.add((stat.st_dev, stat.st_ino))
                    yield hashlib.sha256(os.fsencode(path)).digest(), path


def pack(out, size):
    """Fills ${out} with ${size} bytes; the number of files."""
    for n, (_, path) in enumerate(sorted(candidates())):
        with open(path, "rb") as file:
            data = file.read(size - out.tell())
        out.write(data)
        out.write(bytes(min(-len(data) % PAGE, size - out.tell())))
        if out.tell() == size:
            return n + 1
    raise SystemExit(f"pack-files: all of {', '.join(FOLDERS)} is less than {size >> 20} MiB")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.splitlines()[0])
    image, size = sys.argv[1], int(sys.argv[2]) << 20
    if os.path.exists(image) and os.path.getsize(image) == size:
        return
    os.makedirs(os.path.dirname(os.path.abspath(image)), exist_ok=True)
    with open(image + ".new", "wb") as out:
        files = pack(out, size)
    os.rename(image + ".new", image)
    print(f"{image}: {files} files")


if __name__ == "__main__":
    main()
