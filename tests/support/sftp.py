"""A real SFTP server over a folder, in this process, for tests; any password is right."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko


class _Anyone(paramiko.ServerInterface):
    def check_auth_password(self, username: str, password: str) -> int:
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED


class _Handle(paramiko.SFTPHandle):
    def stat(self) -> paramiko.SFTPAttributes:
        return paramiko.SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))


def _folder_server(root: Path) -> type[paramiko.SFTPServerInterface]:
    def path_of(path: str) -> Path:
        return root / path.lstrip("/")

    def answer(work: Any) -> Any:
        try:
            result = work()
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)
        return paramiko.SFTP_OK if result is None else result

    def attributes(path: Path) -> paramiko.SFTPAttributes:
        found = paramiko.SFTPAttributes.from_stat(path.stat())
        found.filename = path.name
        return found

    class FolderServer(paramiko.SFTPServerInterface):
        def list_folder(self, path: str) -> Any:
            return answer(lambda: [attributes(entry) for entry in path_of(path).iterdir()])

        def stat(self, path: str) -> Any:
            return answer(lambda: attributes(path_of(path)))

        lstat = stat

        def open(self, path: str, flags: int, attr: Any) -> Any:
            def work() -> Any:
                file = os.fdopen(
                    os.open(path_of(path), flags, 0o666),
                    "w+b" if flags & os.O_RDWR else "wb" if flags & os.O_WRONLY else "rb",
                )
                handle = _Handle(flags)
                handle.readfile = handle.writefile = file
                return handle

            return answer(work)

        def remove(self, path: str) -> Any:
            return answer(lambda: path_of(path).unlink())

        def mkdir(self, path: str, attr: Any) -> Any:
            return answer(lambda: path_of(path).mkdir())

    return FolderServer


@contextlib.contextmanager
def sftp(root: Path) -> Iterator[dict[str, Any]]:
    """Serve `root`; gives what a Django site would hold as STORAGES["default"]."""
    key = paramiko.RSAKey.generate(2048)
    transports: list[paramiko.Transport] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            # As OpenSSH does: without it small answers wait for the other side's delayed acknowledgements.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = paramiko.Transport(connection)
            transport.add_server_key(key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _folder_server(root))
            transport.start_server(server=_Anyone())
            transports.append(transport)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield {
            "BACKEND": "storages.backends.sftpstorage.SFTPStorage",
            "OPTIONS": {
                "host": "127.0.0.1",
                "root_path": "/",
                "known_host_file": str(root.parent / "known_hosts"),
                "params": {
                    "port": listener.getsockname()[1],
                    "username": "alice",
                    "password": "alice",
                    "allow_agent": False,
                    "look_for_keys": False,
                },
            },
        }
    finally:
        # A thread that waits in accept() sees a shutdown, not a close.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for transport in transports:
            transport.close()
        thread.join(5)
