"""What mount(8), umount(8), mknod(1), mkfifo(1), chattr(1) and setfattr(1) do, as far as tests ask for it."""

import ctypes
import fcntl
import os
import stat
import struct
import subprocess

os.environ["PATH"] += ":/usr/sbin:/sbin"
libc = ctypes.CDLL(None, use_errno=True)
RDONLY, REMOUNT, BIND, MOVE, REC, DETACH = 1, 32, 4096, 8192, 16384, 2
FLAGS = {"ro": RDONLY, "rw": 0, "nosuid": 2, "nodev": 4, "noexec": 8, "remount": REMOUNT, "noatime": 1024,
         "nodiratime": 2048, "bind": BIND, "--bind": BIND, "--rbind": BIND | REC, "--move": MOVE,
         "--make-private": 1 << 18, "--make-slave": 1 << 19, "--make-shared": 1 << 20}
GETFLAGS, SETFLAGS = 0x80086601, 0x40086602
ATTRIBUTES = {"a": 0x20, "i": 0x10}


def check(result, path):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)


def mount(*words):
    words, kind, flags, data, names = list(words), None, 0, [], []
    while words:
        word = words.pop(0)
        if word == "-t":
            kind = words.pop(0)
        elif word == "-o":
            options = words.pop(0).split(",")
            flags |= sum(FLAGS[one] for one in options if one in FLAGS)
            data += [one for one in options if one not in FLAGS]
        elif word.startswith("-"):
            flags |= FLAGS[word]
        else:
            names.append(word.encode("latin1"))
    target = names[-1]
    source = names[0] if len(names) == 2 else None
    kind, data = kind and kind.encode(), ",".join(data).encode("latin1") or None
    check(libc.mount(source, target, kind, ctypes.c_ulong(flags), data), target)
    # A bind mount takes flags only when it stands.
    if flags & (BIND | REMOUNT) == BIND and flags & ~(BIND | REC):
        check(libc.mount(None, target, None, ctypes.c_ulong(flags & ~REC | REMOUNT), None), target)


def umount(*words):
    flags = DETACH if "--lazy" in words else 0
    for name in [word.encode("latin1") for word in words if not word.startswith("--")]:
        for point in reversed(points_below(name)) if "--recursive" in words else [name]:
            check(libc.umount2(point, flags), point)


def points_below(path):
    with open("/proc/self/mountinfo", "rb") as table:
        points = [line.split(b" ")[4].decode("unicode_escape").encode("latin1") for line in table]
    return [point for point in points if point == path or point.startswith(path + b"/")]


def mknod(path, kind, major=0, minor=0):
    kinds = {"c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
    os.mknod(path.encode("latin1"), kinds[kind] | 0o644, os.makedev(int(major), int(minor)))


def chattr(change, path):
    fd = os.open(path.encode("latin1"), os.O_RDONLY | os.O_NONBLOCK)
    try:
        flags = struct.unpack("<q", fcntl.ioctl(fd, GETFLAGS, bytes(8)))[0]
        for letter in change[1:]:
            flags = flags | ATTRIBUTES[letter] if change[0] == "+" else flags & ~ATTRIBUTES[letter]
        fcntl.ioctl(fd, SETFLAGS, struct.pack("<q", flags))
    finally:
        os.close(fd)


def setxattrs(*entries):
    for path, name, value in entries:
        os.setxattr(path.encode("latin1"), name.encode("latin1"), bytes.fromhex(value), follow_symlinks=False)


def remove(path):
    """rm -rf --one-file-system"""
    own = os.lstat(path).st_dev
    for directory, names, files, fd in os.fwalk(path.encode("latin1"), topdown=False):
        if os.fstat(fd).st_dev != own:
            continue
        for name in files:
            os.unlink(name, dir_fd=fd)
        for name in names:
            if stat.S_ISLNK(os.lstat(name, dir_fd=fd).st_mode):
                os.unlink(name, dir_fd=fd)
            else:
                os.rmdir(name, dir_fd=fd)
    os.rmdir(path.encode("latin1"))


def run(cwd, *words):
    done = subprocess.run([word.encode("latin1") for word in words], cwd=cwd, capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(f"{words} ended with {done.returncode}: {done.stderr.decode('latin1')}")
    return done.stdout.decode("latin1")


def answer(request):
    command, *words = request
    return globals()[command](*words)
