"""A tree as it is seen, entry by entry; paths in latin1 stand for bytes. What the package says is not its own witness."""

import hashlib
import json
import os
import stat
import sys


def entry(path):
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    content = None
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()
    elif kind == stat.S_IFLNK:
        content = os.fsencode(os.readlink(path)).hex()
    names = [name for name in os.listxattr(path, follow_symlinks=False) if ".overlay." not in name]
    xattrs = {name: os.getxattr(path, name, follow_symlinks=False).hex() for name in sorted(names)}
    same = [stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_rdev, content, xattrs]
    return {"kind": kind, "same": json.dumps(same), "mtime": str(st.st_mtime_ns)}


root = os.fsencode(sys.argv[1])
found = {}
for folder, folders, files in os.walk(root):
    for name in folders + files:
        path = os.path.join(folder, name)
        found[os.path.relpath(path, root).decode("latin1")] = entry(path)
json.dump(found, sys.stdout)
