"""Runs a command that dies with its parent and, where root must not run it, as somebody else.

Executed as a file by a bare interpreter, so it uses the standard library alone and starts in 30 ms.
Which processes are started this way, and how they are stopped in order, is not decided here.
"""

import ctypes
import os
import resource
import sys
from signal import SIG_DFL, SIG_SETMASK, Signals, pthread_sigmask
from signal import signal as set_handler

NOBODY = 65534

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_REFUSED = 126


def command(
    argv: list[str],
    *,
    signal: str = "TERM",
    user_namespace: bool = False,
    uid: int | None = None,
    limits: dict[str, int] | None = None,
) -> list[str]:
    """What to give ``Popen`` so that ``argv`` gets ``signal`` as soon as this process is gone.

    The kernel counts the end of the *thread* that started a child as its parent's death, so start
    it from a thread that lives as long as the child should.

    Args:
        argv: The command; its first word is a path, as PATH is not searched.
        signal: What it gets when its parent dies, without the ``SIG``.
        user_namespace: Let it see itself as nobody while the kernel goes on treating it as us.
        uid: Become this user and group, which takes root.
        limits: What it may use at most, as ``setrlimit`` names it without the ``RLIMIT_``.
    """
    who = "namespace" if user_namespace else "same" if uid is None else str(uid)
    most = ",".join(f"{name}={value}" for name, value in (limits or {}).items())
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), signal, who, most, *argv]


def _run(parent: int, signal: str, who: str, limits: str, argv: list[str]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if who == "namespace":
        _enter_user_namespace(libc)
    elif who != "same":
        _become(int(who))
    # After the change of user, because that clears the setting; an exec keeps it.
    _check(libc.prctl(_PR_SET_PDEATHSIG, int(Signals[f"SIG{signal}"]), 0, 0, 0))
    if os.getppid() != parent:
        sys.exit(_REFUSED)  # The parent died before the kernel was told to watch it.
    # A parent that waits for signals by sigwait has blocked them, and blocks are inherited.
    pthread_sigmask(SIG_SETMASK, [])
    # A shell ignores SIGINT for what it runs in the background, and that is inherited as well.
    for ignored in (Signals.SIGINT, Signals.SIGTERM):
        set_handler(ignored, SIG_DFL)
    for limit in filter(None, limits.split(",")):
        _limit(*limit.split("="))
    os.execv(argv[0], argv)


def _limit(name: str, value: str) -> None:
    kind = int(getattr(resource, f"RLIMIT_{name}"))
    _, most = resource.getrlimit(kind)
    # What we were given less of ourselves we cannot give more of.
    bound = int(value) if most == resource.RLIM_INFINITY else min(int(value), most)
    resource.setrlimit(kind, (bound, bound))


def _enter_user_namespace(libc: ctypes.CDLL) -> None:
    """Makes us nobody in our own eyes; every file we could reach by owning it we still reach."""
    uid, gid = os.geteuid(), os.getegid()
    _check(libc.unshare(_CLONE_NEWUSER))
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{NOBODY} {uid} 1")
    _write("/proc/self/gid_map", f"{NOBODY} {gid} 1")


def _become(uid: int) -> None:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _write(path: str, content: str) -> None:
    file = os.open(path, os.O_WRONLY)
    os.write(file, content.encode())
    os.close(file)


def _main() -> None:
    _, parent, signal, who, limits, *argv = sys.argv
    try:
        _run(int(parent), signal, who, limits, argv)
    except OSError as error:
        sys.stderr.write(f"cannot run {argv[0]} as {who}: {error}\n")
        sys.exit(_REFUSED)


if __name__ == "__main__":
    _main()
