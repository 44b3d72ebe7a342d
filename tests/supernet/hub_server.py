"""A server on this machine that speaks what huggingface_hub asks of the Hub to upload and download a model."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_ann"
SHA = "0123456789abcdef0123456789abcdef01234567"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, data=b"{}", status=200, **headers):
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_POST(self):
        size = self.headers.get("Content-Length")
        body = self.rfile.read(int(size)) if size else b"".join(self._chunks())
        path = urlsplit(self.path).path
        if path == "/api/repos/create":
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.answer({"error": "no"}, 401)
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.server.models.setdefault(name, {})
            return self.answer({"url": f"{self.server.url}/{name}", "id": name, "name": name})
        if path == "/api/validate-yaml":
            self.server.validated.append(json.loads(body)["content"])
            return self.answer({"errors": [], "warnings": []})
        name, what = "/".join(path.split("/")[3:5]), path.split("/")[5]
        if what == "preupload":
            files = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                     for f in json.loads(body)["files"]]  # fmt: skip
            return self.answer({"files": files})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.server.models[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self.answer({"commitUrl": f"{self.server.url}/{name}/commit/{SHA}", "commitOid": SHA, "success": True})

    def _chunks(self):
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        if path == "/api/whoami-v2":
            known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            return self.answer(
                {"name": "ann", "type": "user"} if known else {"error": "Invalid token"}, 200 if known else 401
            )
        parts = path.strip("/").split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        files = self.server.models.get(name)
        if files is None:
            return self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        if parts[0] != "api":
            data = files.get("/".join(parts[4:]))
            if data is None:
                return self.answer(b"", 404, X_Error_Code="EntryNotFound", X_Repo_Commit=SHA)
            tag = hashlib.sha256(data).hexdigest()
            return self.answer(data, ETag=f'"{tag}"', X_Repo_Commit=SHA, Accept_Ranges="none")
        if "tree" in parts:
            tree = [{"type": "file", "path": each, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for each, data in files.items()]  # fmt: skip
            return self.answer(tree, Content_Type="application/json")
        siblings = [{"rfilename": each} for each in files]
        return self.answer(
            {"id": name, "modelId": name, "sha": SHA, "siblings": siblings, "private": False, "tags": []}
        )

    do_HEAD = do_GET  # noqa: N815


@contextmanager
def hub():
    """A running server: its `url`, its `models` as files by name, and the cards that it was asked to validate."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.url, server.models, server.validated = f"http://127.0.0.1:{server.server_port}", {}, []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
