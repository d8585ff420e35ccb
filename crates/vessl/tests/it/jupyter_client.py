"""Uses JupyterLab through a link as a browser does, and prints what it saw as JSON: `jupyter_client.py LINK CODE`."""
import base64
import http.client
import json
import os
import socket
import struct
import sys
import urllib.parse
import uuid

link, code = sys.argv[1:3]
HOST = urllib.parse.urlsplit(link).netloc
PORT = int(HOST.rsplit(":", 1)[1])
cookies = {}


def ask(method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)
    headers = {"Host": HOST, "Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items()), "X-XSRFToken": cookies.get("_xsrf", "")}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    for cookie in answer.headers.get_all("Set-Cookie") or []:
        name, value = cookie.split(";")[0].split("=", 1)
        cookies[name] = value
    return answer.status, answer.headers, answer.read()


def page(path):
    """Follows redirects."""
    for _ in range(5):
        status, headers, body = ask("GET", path)
        if status not in (301, 302, 303, 307, 308):
            return status, path, body
        path = headers["Location"]
    raise SystemExit("too many redirects")


class Socket:
    def __init__(self, path):
        self.way = socket.create_connection(("127.0.0.1", PORT), timeout=120)
        key = base64.b64encode(os.urandom(16)).decode()
        cookie = "; ".join(f"{k}={v}" for k, v in cookies.items())
        self.way.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nOrigin: http://{HOST}\r\nCookie: {cookie}\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        self.file = self.way.makefile("rb")
        status = self.file.readline()
        assert b" 101 " in status, status
        while self.file.readline().strip():
            pass

    def send(self, document):
        data = json.dumps(document).encode()
        size = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0xFE]) + struct.pack(">H", len(data))
        mask = os.urandom(4)
        self.way.sendall(b"\x81" + size + mask + bytes(byte ^ mask[n % 4] for n, byte in enumerate(data)))

    def next(self):
        while True:
            first, second = self.file.read(2)
            length = second & 0x7F
            if length == 126:
                length = struct.unpack(">H", self.file.read(2))[0]
            elif length == 127:
                length = struct.unpack(">Q", self.file.read(8))[0]
            data = self.file.read(length)
            if first & 0xF == 1:
                return json.loads(data)


def cell(text):
    """Runs a cell in a new kernel: what it printed, and its error."""
    status, _, body = ask("POST", "/api/kernels", json.dumps({"name": "python3"}))
    assert status == 201, (status, body)
    kernel = json.loads(body)["id"]
    way = Socket(f"/api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}")
    header = {"msg_id": uuid.uuid4().hex, "username": "", "session": uuid.uuid4().hex, "msg_type": "execute_request",
              "version": "5.3", "date": "2026-01-01T00:00:00Z"}
    content = {"code": text, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False, "stop_on_error": True}
    way.send({"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content, "buffers": []})
    printed, error = "", None
    while True:
        message = way.next()
        if message["parent_header"].get("msg_id") != header["msg_id"]:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            printed += content["text"]
        elif kind == "error":
            error = f"{content['ename']}: {content['evalue']}"
        elif kind == "status" and content["execution_state"] == "idle":
            return printed, error


def terminal(line, until):
    status, _, body = ask("POST", "/api/terminals", "{}")
    assert status == 200, (status, body)
    way = Socket(f"/terminals/websocket/{json.loads(body)['name']}")
    way.send(["stdin", line + "\r"])
    shown = ""
    while until not in shown:
        message = way.next()
        if message[0] == "stdout":
            shown += message[1]
    return shown


parts = urllib.parse.urlsplit(link)
status, place, body = page(f"{parts.path}?{parts.query}")
printed, error = cell(code)
listed = json.loads(ask("GET", "/api/contents")[2])
print(json.dumps({
    "status": status,
    "place": place,
    "page": "JupyterLab" in body.decode(),
    "printed": printed,
    "error": error,
    "files": sorted(entry["name"] for entry in listed["content"]),
    "terminal": terminal("echo $((40 + 2))-", "42-"),
    "closed": ask("GET", "/api/contents?x=1")[0],
}))
