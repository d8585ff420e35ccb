# A program with a web page, as the tests of ports want it: says what it was asked, counts uploads, sends events, echoes web sockets.
import base64, hashlib, json, os, socket, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ME = os.environ["VESSL_RUN_ID"]
SEEN = []
GO = threading.Event()


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, text, headers=()):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Run", ME)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        SEEN.append(self.path)
        if self.path == "/events":
            self.events()
        elif self.path == "/go":
            GO.set()
            self.answer("gone on")
        elif self.path == "/ws":
            self.websocket()
        elif self.path == "/seen":
            self.answer(json.dumps(SEEN))
        elif self.path == "/cookies":
            own = [("Set-Cookie", "app=1; Path=/"), ("Set-Cookie", "__Host-vessl-port=stolen; Path=/; Secure")]
            self.answer("set", own + [("Connection", "X-Inside"), ("X-Inside", "1")])
        else:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.answer(json.dumps({"path": self.path, "headers": headers}))

    def do_POST(self):
        SEEN.append(self.path)
        length, digest = 0, hashlib.sha256()
        for piece in self.pieces():
            length += len(piece)
            digest.update(piece)
        self.answer(f"{length} {digest.hexdigest()}")

    def pieces(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length", 0))
        while left and (piece := self.rfile.read(min(left, 1 << 16))):
            left -= len(piece)
            yield piece

    def events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"data: first\n\n")
        self.wfile.flush()
        GO.wait()
        self.wfile.write(b"data: second\n\n")
        self.close_connection = True

    def websocket(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True
        while head := self.rfile.read(2):
            length = head[1] & 127
            if length == 126:
                length = int.from_bytes(self.rfile.read(2), "big")
            mask = self.rfile.read(4)
            data = bytes(byte ^ mask[n % 4] for n, byte in enumerate(self.rfile.read(length)))
            size = bytes([length]) if length < 126 else b"\x7e" + length.to_bytes(2, "big")
            self.wfile.write(head[:1] + size + data)
            self.wfile.flush()

    def log_message(self, *_):
        pass


def echo(listener):
    while True:
        way, _ = listener.accept()
        with way:
            data = b""
            while piece := way.recv(65536):
                data += piece
            way.sendall(data + b" over")


threading.Thread(target=echo, args=(socket.create_server(("127.0.0.1", 5432)),), daemon=True).start()
app = ThreadingHTTPServer(("127.0.0.1", 8501), App)
print("listening", flush=True)
app.serve_forever()
