"""Put ONNX Runtime for browsers into the package, for `onnx-xcam demo`. Needs npm; run once per checkout.

python -m tools.release.vendor_web           # fetch onnxruntime-web with `npm pack`, check it, copy two files
python -m tools.release.vendor_web --check   # exit status 1 if they are not there, or of another version

A wheel built afterwards holds the files; git ignores them.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from onnx_xcam.demo.browser_runtime import FILES, NPM_PACKAGE, NPM_VERSION, VENDORED
from tools.common import command_line

SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Of the npm package of this version, as the registry states it; a change of version changes it."""

STAMP = VENDORED / "version.json"


def is_up_to_date() -> bool:
    """Whether the files of the pinned version are there."""
    try:
        stated = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return stated == {"version": NPM_VERSION} and all((VENDORED / name).is_file() for name in FILES)


def packed(folder: Path) -> bytes:
    """The npm package, checked."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is not there: install Node.js with npm, then run this again.")
    command = [npm, "pack", "--silent", "--ignore-scripts", f"{NPM_PACKAGE}@{NPM_VERSION}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = list(folder.glob("*.tgz"))
    if done.returncode != 0 or len(found) != 1:
        sys.exit(f"npm could not fetch {NPM_PACKAGE} {NPM_VERSION}: {done.stderr.strip() or 'it made no file'}")
    content = found[0].read_bytes()
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != SHA512:
        sys.exit(f"{NPM_PACKAGE} {NPM_VERSION} is not the package that was pinned: its sha512 differs.")
    return content


def main() -> int:
    """Fetch the files, or only check them; the exit status."""
    parser = command_line.parser("tools.release.vendor_web", __doc__)
    parser.add_argument("--check", action="store_true", help="only tell whether the files are there")
    check = parser.parse_args().check
    if is_up_to_date():
        return 0
    if check:
        print("ONNX Runtime for browsers is not there: run python -m tools.release.vendor_web", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        content = packed(Path(folder))
    VENDORED.mkdir(exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for name in FILES:
            member = archive.extractfile(f"package/dist/{name}")
            assert member is not None
            (VENDORED / name).write_bytes(member.read())
    STAMP.write_text(json.dumps({"version": NPM_VERSION}) + "\n", encoding="utf-8")
    print(f"{NPM_PACKAGE} {NPM_VERSION} -> {VENDORED}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
