"""A Hugging Face hub of a few small datasets on this machine, as far as huggingface_hub and datasets ask it."""

import json
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "c0ffee" + "0" * 34
GATED = "owner/gated"


class _Requests(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        status, headers, body = self.answer(self.path.partition("?")[0])
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def answer(self, path):
        """(status, headers, body): files at /datasets/OWNER/NAME/resolve/COMMIT/FILE, all else under /api."""
        kind, _, rest = path.strip("/").removeprefix("api/").partition("/")
        name, _, asked = "/".join(rest.split("/")[:2]), None, "/".join(rest.split("/")[2:])
        files = self.server.datasets.get(name)
        if kind != "datasets" or files is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if name == GATED:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        verb, _, rest = asked.partition("/")
        commit, _, inside = rest.partition("/")
        if commit not in ("", "main", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if verb == "resolve":
            return _file(files, inside)
        if verb == "tree":
            return _tree(files, inside)
        siblings = [{"rfilename": file} for file in files]
        return _json({"id": name, "sha": COMMIT, "private": False, "gated": False, "tags": [], "siblings": siblings})

    def log_message(self, *_):
        pass


def _file(files, name):
    if name not in files:
        return 404, {"X-Error-Code": "EntryNotFound"}, b""
    headers = {"ETag": f'"{sha256(files[name]).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "none"}
    return 200, headers, files[name]


def _tree(files, folder):
    if folder:
        return 404, {"X-Error-Code": "EntryNotFound"}, b""
    return _json([{"type": "file", "path": name, "size": len(text), "oid": "0" * 40} for name, text in files.items()])


def _json(value):
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


@contextmanager
def small_hub(datasets):
    """Serve `{name: {file: bytes}}`; gives (address, the paths that were asked for)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Requests)
    server.datasets, server.requests = datasets, []
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
