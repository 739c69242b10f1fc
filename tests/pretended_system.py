"""Make Linux processes behave like ones on Windows or macOS, as far as mnist_mlp can observe.

`environment` returns variables under which every Python process, spawned workers included, pretends. Files, consoles
and multiprocessing then behave so for all code; missing modules, functions and signals are missing for mnist_mlp only,
because the libraries' own code for Windows cannot run here.
"""

import builtins
import errno
import io
import multiprocessing.context
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

VARIABLE = "PRETENDED_SYSTEM"
USER_FOLDER = len(r"C:\Users\firstname.lastname\mnist_mlp")
"""Pretended length of the current folder: names below it count towards MAX_PATH."""
MAX_NAME, MAX_PATH = 255, 259
LINUX_MODULES = {
    "windows": ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"),
    "macos": (),
}
LINUX_FUNCTIONS = {
    "windows": {
        *("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_SYNC", "WIFEXITED", "WIFSIGNALED", "WNOHANG", "WTERMSIG"),
        *("chown", "fchdir", "fork", "forkpty", "fstatvfs", "getegid", "geteuid", "getgid", "getloadavg", "getpgid"),
        *("getpriority", "getsid", "getuid", "killpg", "lchown", "lockf", "mkfifo", "nice", "openpty", "pipe2"),
        *("posix_fadvise", "posix_fallocate", "pread", "pwrite", "register_at_fork", "sched_getaffinity", "sendfile"),
        *("set_blocking", "setpgid", "setsid", "statvfs", "sync", "sysconf", "ttyname", "uname", "wait", "wait4"),
    },
    "macos": {"O_DIRECT", "pipe2", "posix_fadvise", "posix_fallocate", "sched_getaffinity", "sched_setaffinity"},
}  # fmt: skip
WINDOWS_SIGNALS = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIG_DFL", "SIG_IGN"}
LINUX_SIGNAL_FUNCTIONS = {"alarm", "pthread_kill", "pthread_sigmask", "setitimer", "siginterrupt", "sigwait"}
FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]|[. ]$|(?i:^(con|prn|aux|nul|com\d|lpt\d)(\.|$))')
REAL = {name: getattr(os, name) for name in ("fsync", "listdir", "stat")}


def environment(system: str, folder: Path) -> dict[str, str]:
    """Return the environment of processes that pretend to be this system; writes a module to the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(f"import {__name__}\n{__name__}.install()\n")
    package, tests = Path(__file__).parents[1], Path(__file__).parent
    console = {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"} if system == "windows" else {}
    path = os.pathsep.join(map(str, (folder, tests, package)))
    return {**os.environ, "PYTHONPATH": path, VARIABLE: system, **console}


def install() -> None:
    """Make this process pretend, from now on."""
    system = os.environ[VARIABLE]
    _hide_modules(system)
    _fold_names()
    if system == "windows":
        _restrict_files()
        _only_spawn()


def _is_ours(name: object) -> bool:
    return str(name).startswith(("mnist_mlp", "hydra_plugins.mnist_mlp"))


def _called_by_us() -> bool:
    """Whether mnist_mlp calls, perhaps through Python's own file modules."""
    frame: Any = sys._getframe(2)
    while frame and re.match(r"(pathlib|io|os|codecs|shutil|pretended_system)\b", frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    return frame is not None and _is_ours(_module_name(frame.f_globals))


def _module_name(scope: Any) -> str:
    name = str(scope.get("__name__", ""))
    spec = scope.get("__spec__")
    return str(spec.name) if name == "__main__" and spec is not None else name


class _Disguise(ModuleType):
    """A module without some attributes, and with others in their place."""

    def __init__(self, module: ModuleType, missing: Any, **others: object) -> None:
        super().__init__(module.__name__)
        self.__dict__.update(others, _module=module, _missing=missing)

    def __getattr__(self, name: str) -> Any:
        if name in self._missing:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self._module, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._module, name, value)


def _hide_modules(system: str) -> None:
    """Hide from mnist_mlp what the system's Python lacks."""
    windows, real_import = system == "windows", builtins.__import__
    names = {name for name in dir(signal) if name.startswith("SIG")} if windows else set()
    missing_signals = names.difference(WINDOWS_SIGNALS).union(LINUX_SIGNAL_FUNCTIONS if windows else ())
    disguises: dict[str, ModuleType] = {
        "os": _Disguise(os, LINUX_FUNCTIONS[system], **({"name": "nt", "linesep": "\r\n"} if windows else {})),
        "signal": _Disguise(signal, missing_signals),
        "sys": _Disguise(sys, (), platform="win32" if windows else "darwin"),
    }

    def import_(name: str, scope: Any = None, local: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if level == 0 and scope is not None and _is_ours(_module_name(scope)):
            if name in LINUX_MODULES[system]:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            if name in disguises:
                return disguises[name]
        return real_import(name, scope, local, fromlist, level)

    builtins.__import__ = import_  # type: ignore[assignment]


def _is_pretended(path: str) -> bool:
    return not os.path.abspath(path).startswith(("/dev/", "/proc/", "/sys/"))


def _fold_names() -> None:
    """Ignore the case of names, and hide /proc and /sys from mnist_mlp."""

    def fold(path: Any) -> Any:
        if not isinstance(path, (str, os.PathLike)) or not isinstance(text := os.fspath(path), str):
            return path
        if text.startswith(("/proc", "/sys")) and _called_by_us():
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", text)
        folder, name = os.path.split(text)
        try:
            REAL["stat"](text, follow_symlinks=False)
        except OSError:
            if folder and name and folder != text:
                folder = fold(folder)
            try:
                same = [other for other in REAL["listdir"](folder or ".") if other.lower() == name.lower()]
            except OSError:
                same = []
            return os.path.join(folder, same[0]) if same else path
        return path

    def folding(function: Callable[..., Any], count: int = 1) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            relative = any(keywords.get(name) is not None for name in ("dir_fd", "src_dir_fd", "dst_dir_fd"))
            paths = arguments if relative else (*map(fold, arguments[:count]), *arguments[count:])
            return function(*paths, **keywords)

        return call

    for name in ("lstat", "mkdir", "open", "remove", "rmdir", "scandir", "stat", "unlink"):
        setattr(os, name, folding(getattr(os, name)))
    for name in ("rename", "replace"):
        setattr(os, name, folding(getattr(os, name), 2))
    for name in ("exists", "isdir", "isfile", "islink", "lexists"):
        setattr(os.path, name, folding(getattr(os.path, name)))
    io.open = builtins.open = folding(io.open)  # type: ignore[assignment]


def _refuse_name(path: object) -> None:
    """Refuse a new name that Windows does not allow, and a path that is too long below a user's folder."""
    if not isinstance(path, (str, os.PathLike)) or not _is_pretended(text := str(os.fspath(path))):
        return
    names = [name for name in text.split("/") if name not in ("", ".", "..")]
    if any(FORBIDDEN.search(name) or len(name) > MAX_NAME for name in names):
        raise OSError(errno.EINVAL, "The filename, directory name, or volume label syntax is incorrect", text)
    below = os.path.relpath(text)
    if not below.startswith("..") and USER_FOLDER + 1 + len(below) > MAX_PATH:
        raise FileNotFoundError(errno.ENOENT, "The system cannot find the path specified", text)


def _open_files() -> Iterator[tuple[str, str]]:
    """Yield the files that pretending processes have open or mapped, with their process."""
    for pid in filter(str.isdigit, REAL["listdir"]("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as variables:
                if VARIABLE.encode() not in variables.read():
                    continue
            for descriptor in REAL["listdir"](f"/proc/{pid}/fd"):
                yield os.readlink(f"/proc/{pid}/fd/{descriptor}"), pid
            with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
                for line in maps:
                    yield line[73:].rstrip("\n"), pid
        except OSError:  # it has ended
            continue


def _refuse_open_file(path: Any) -> None:
    """Refuse to remove or rename a file that is open, or a folder with an open file."""
    whole = os.path.realpath(path)
    for name, pid in _open_files():
        if name == whole or name.startswith(f"{whole}/"):
            raise PermissionError(errno.EACCES, f"The process cannot access the file: process {pid} uses it", str(path))


def _restrict_files() -> None:
    import fcntl

    real_open, real_unlink, real_replace, real_rename, real_mkdir = (
        io.open, os.unlink, os.replace, os.rename, os.mkdir,
    )  # fmt: skip
    folding_open = os.open

    def open_descriptor(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is None and flags & os.O_CREAT:
            _refuse_name(path)
        if _called_by_us() and os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return int(folding_open(path, flags, mode, dir_fd=dir_fd))

    def open_file(
        path: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, *more: Any, **rest: Any
    ) -> Any:
        if set(mode) & set("wax"):
            _refuse_name(path)
        if "b" not in mode and encoding in (None, "locale"):
            encoding = "cp1252"
        return real_open(path, mode, buffering, encoding, *more, **rest)

    def fsync(descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        REAL["fsync"](number)

    def replace(source: Any, target: Any, **keywords: Any) -> None:
        _refuse_name(target)
        for path in (source, target):
            _refuse_open_file(path)
        real_replace(source, target, **keywords)

    def rename(source: Any, target: Any, **keywords: Any) -> None:
        _refuse_name(target)
        _refuse_open_file(source)
        if os.path.lexists(target) and not os.path.samefile(source, target):
            raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", str(target))
        real_rename(source, target, **keywords)

    def unlink(path: Any, *, dir_fd: int | None = None) -> None:
        if dir_fd is None:
            _refuse_open_file(path)
        real_unlink(path, dir_fd=dir_fd)

    def mkdir(path: Any, *arguments: Any, **keywords: Any) -> None:
        _refuse_name(path)
        real_mkdir(path, *arguments, **keywords)

    def symlink(source: Any, target: Any, *arguments: Any, **keywords: Any) -> None:
        raise OSError(errno.EPERM, "A required privilege is not held by the client", str(target))

    for function in (fsync, replace, rename, unlink, mkdir, symlink):
        setattr(os, function.__name__, function)
    os.remove, os.open = unlink, open_descriptor
    io.open = builtins.open = open_file  # type: ignore[assignment]


def _only_spawn() -> None:
    """Offer only the start method of Windows."""
    context: Any = multiprocessing.context
    default, real_get = context._default_context, context.DefaultContext.get_context

    def get_context(self: Any, method: str | None = None) -> Any:
        if method in ("fork", "forkserver"):
            raise ValueError(f"cannot find context for {method!r}")
        return real_get(self, method or "spawn")

    context.DefaultContext.get_context = get_context
    context.DefaultContext.get_all_start_methods = lambda self: ["spawn"]
    default._default_context = context._concrete_contexts["spawn"]
    multiprocessing.get_all_start_methods = lambda: ["spawn"]
