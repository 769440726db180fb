"""A tree with everything that copy-up must keep: `make` it, have the kernel copy it up (`touch`)."""

import fcntl
import os
import socket
import stat
import struct

GETFLAGS, SETFLAGS = 0x80086601, 0x40086602
APPEND, NOATIME = 0x20, 0x80
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
CAPABILITY = struct.pack("<IIIII", 0x2000001, 1 << 13, 0, 0, 0)  # cap_net_raw+ep


def acl(*entries):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY = 0xFFFFFFFF
SOME_ACL = acl((1, 7, NOBODY), (2, 4, 7), (4, 5, NOBODY), (8, 2, 9), (16, 7, NOBODY), (32, 1, NOBODY))


def flags(path, change=None):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        value = bytearray(8)
        fcntl.ioctl(fd, GETFLAGS, value)
        if change is not None:
            fcntl.ioctl(fd, SETFLAGS, struct.pack("<q", change(struct.unpack("<q", value)[0])))
        return struct.unpack("<q", value)[0]
    finally:
        os.close(fd)


def write(path, *pieces, size=None):
    with open(path, "wb") as file:
        for at, content in pieces:
            file.seek(at)
            file.write(content)
        if size is not None:
            file.truncate(size)


def make(root):
    at = lambda name: os.path.join(os.fsencode(root), os.fsencode(name))
    os.makedirs(at("deep/er/still"), exist_ok=True)
    write(at("empty"))
    write(at("small"), (0, b"from the lower\n"))
    write(at("large"), (0, bytes(range(256)) * 1300))
    write(at("sparse"), (1 << 20, b"x" * 5000), (3 << 20, b"y"), size=5 << 20)
    write(at("all-hole"), size=2 << 20)
    write(at("allocated"), (0, b"z" * 4096))
    fd = os.open(at("allocated"), os.O_WRONLY)
    os.posix_fallocate(fd, 0, 1 << 20)
    os.close(fd)
    write(at("deep/er/still/file"), (0, b"deep"))
    write(at("unreadable"), (0, b"000"))
    write(at("setuid"), (0, b"#!"))
    write(at("capable"), (0, b"#!"))
    write(at("with-acl"), (0, b"acl"))
    write(at("with-xattrs"), (0, b"xattrs"))
    write(at("linked"), (0, b"two names"))
    os.link(at("linked"), at("linked-too"))
    write(at(b"not utf-8 \xff\n"), (0, b"odd"))
    write(at("append-only"), (0, b"append"))
    write(at("no-atime"), (0, b"noatime"))
    os.symlink("small", at("link"))
    os.symlink(b"nowhere/\xff" + b"n" * 1000, at("dangling"))
    os.mkfifo(at("fifo"))
    os.mknod(at("character"), stat.S_IFCHR, os.makedev(300, 70000))
    os.mknod(at("block"), stat.S_IFBLK, os.makedev(7, 250))
    socket.socket(socket.AF_UNIX).bind(at("socket"))
    os.mkdir(at("sticky"))
    os.mkdir(at("inheriting"))
    os.mkdir(at("append-only-dir"))
    write(at("append-only-dir/file"), (0, b"inside"))

    for name, owner in (("small", (12345, 54321)), ("setuid", (5, 6)), ("capable", (5, 6)), ("sticky", (7, 8)),
                        ("link", (9, 10)), ("fifo", (11, 12)), ("deep/er", (13, 14))):
        os.chown(at(name), *owner, follow_symlinks=False)
    for name, mode in (("unreadable", 0), ("setuid", 0o6755), ("sticky", 0o3771), ("fifo", 0o462),
                       ("character", 0o604), ("deep/er", 0o500)):
        os.chmod(at(name), mode)
    for name, attribute, value in (
        ("with-acl", ACCESS, SOME_ACL), ("inheriting", DEFAULT, SOME_ACL), ("inheriting", ACCESS, SOME_ACL),
        ("capable", "security.capability", CAPABILITY), ("with-xattrs", "user.a", b"\0\xff"),
        ("with-xattrs", "user.empty", b""), ("with-xattrs", "trusted.long", b"l" * 300),
        ("with-xattrs", "trusted.overlay.overlay.opaque", b"y"), ("sticky", "user.dir", b"d"),
        ("link", "trusted.link", b"l"), ("character", "trusted.device", b"c"), ("fifo", "trusted.fifo", b"f"),
        # What an overlay that had this for its upper has left: it is not for the next one.
        ("with-xattrs", "trusted.overlay.origin", b""), ("deep", "trusted.overlay.impure", b"y"),
        ("with-xattrs", "user.overlay.origin", b""), ("deep", "user.overlay.impure", b"y"),
    ):
        os.setxattr(at(name), attribute, value, follow_symlinks=False)
    write(at("inheriting/heir"), (0, b"acl"))
    os.mkdir(at("inheriting/plain"))
    for name in ("inheriting/plain", "inheriting/heir"):
        for attribute in {ACCESS, DEFAULT} & set(os.listxattr(at(name))):
            os.removexattr(at(name), attribute)
    for directory, names, files in os.walk(os.fsencode(root), topdown=False):
        for name in names + files:
            path = os.path.join(directory, name)
            os.utime(path, ns=(10**18, 10**18 + len(path) * 1234567), follow_symlinks=False)
    os.utime(at("large"), ns=(0, -1_500_000_000))
    flags(at("no-atime"), lambda old: old | NOATIME)
    for name in ("append-only", "append-only-dir"):
        flags(at(name), lambda old: old | APPEND)


def unprotect(root):
    for name in ("append-only", "append-only-dir"):
        flags(os.path.join(root, os.fsencode(name)), lambda old: old & ~APPEND)


def touch(path):
    st = os.lstat(path)
    if stat.S_ISREG(st.st_mode):
        append = os.O_APPEND if os.path.basename(path) == b"append-only" else 0
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | append))
    elif os.path.basename(path) == b"append-only-dir":
        pass  # its file brings it up: its times may not be set
    else:
        os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns), follow_symlinks=False)


def walk(root):
    yield root
    for directory, names, files in os.walk(root):
        for name in names + files:
            yield os.path.join(directory, name)


def answer(request):
    command, root, *rest = request
    root = os.fsencode(root)
    if command == "make":
        make(root)
    elif command == "unprotect":
        unprotect(root)
    elif command == "touch":
        for path in [os.path.join(root, os.fsencode(name)) for name in rest] or list(walk(root)):
            touch(path)
