"""Real HTTP servers that speak the providers' batch protocols, with the accidents of each.

    with OpenAIBatchServer() as server:
        create("openai/m", base_url=server.url).batches()

Requests of a batch are checked and answered as by `api_server`, when the batch is made; how many
times each sample was asked (and would be paid) is in `server.asked`. A batch has ended after
`server.looks` looks at it, or when `server.held` is False. What the servers say is checked by the
SDKs' own models before it is sent.
"""

import email.parser
import email.policy
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse
from api_server import Ask, Protocol, Script, WrongError
from chat_server import Reply
from google.genai import types as google_types
from openai.types import Batch as OpenAIBatch
from openai.types import FileObject
from openai.types.batch_create_params import BatchCreateParams
from protocols import Anthropic, Google, OpenAIChat
from schemas import faults

EXPIRE, CANCEL, LOSE = Reply(1), Reply(2), Reply(3)
"""What a script may return: the request is not asked, or its result is not there."""
HANG_UP = Reply(drop=0)
"""What a fault may return: the connection is closed without a word."""


@dataclass
class Call:
    """An HTTP request."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    content: bytes
    nth: int = 1
    """How many times this method and kind of path came, this time included."""

    @property
    def kind(self) -> str:
        """Such as "POST /v1/batches" or "GET /v1/batches/*"."""
        parts = [part if _fixed(part) else "*" for part in self.path.split("/")]
        return f"{self.method} {'/'.join(parts)}"

    def json(self) -> Any:
        return json.loads(self.content)


def _fixed(part: str) -> bool:
    words = "v1 v1beta messages batches files content results cancel upload models"
    return not part or part in words.split()


@dataclass
class Made:
    """A batch that was made."""

    id: str
    name: str
    """What it is known by: a token in metadata, a display name."""
    keys: list[str]
    outcomes: list[tuple[str, Ask, Reply]]
    at: float = field(default_factory=time.time)
    looked: int = 0
    state: str = "running"
    """running, ended, cancelled, expired or failed"""
    errors: list[dict[str, Any]] = field(default_factory=list)
    """Why it failed."""
    extra: Any = None


class BatchServer:
    """The server in threads of its own."""

    protocol: Protocol
    provider: str
    variable: str
    """Where its key is looked for."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or (lambda ask: ask.answer(f"seen {ask.prompt}"))
        self.asked: Counter[str] = Counter()
        self.wrongs: list[str] = []
        self.made: list[Made] = []
        self.calls: Counter[str] = Counter()
        self.files: dict[str, tuple[str, bytes, float]] = {}
        self.looks = 1
        self.held = False
        self.fault: Callable[[Call], Reply | None] = lambda call: None
        """Instead of doing anything."""
        self.after: Callable[[Call], Reply | None] = lambda call: None
        """When it is done, instead of saying so."""
        self.refuse: Callable[[list[Ask]], list[dict[str, Any]]] = lambda asks: []
        """Errors of a batch as a whole."""
        self.arrange: Callable[[list[bytes]], list[bytes]] = lambda lines: lines
        """Lines of results as they are sent."""
        self.lose_results = False
        self.lock = threading.RLock()

    def __enter__(self) -> "BatchServer":
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one write a reply
            disable_nagle_algorithm = True

            def handle_any(self) -> None:
                self.close_connection |= not server.serve(self)

            do_GET = do_POST = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        self.url = self.origin + self.protocol.base
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def serve(self, http: BaseHTTPRequestHandler) -> bool:
        """One exchange; False if the connection is to be closed."""
        url = urlsplit(http.path)
        headers = {name.lower(): value for name, value in http.headers.items()}
        content = http.rfile.read(int(headers.get("content-length", 0)))
        call = Call(http.command, url.path, parse_qs(url.query), headers, content)
        reply = self.answer(call)
        if reply.drop is not None:
            return False
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        kind = {"content-type": "application/json", "content-length": str(len(body))}
        http.send_response(reply.status)
        for name, value in (kind | reply.headers).items():
            http.send_header(name, value)
        http.end_headers()
        http.wfile.write(body)
        return True

    def answer(self, call: Call) -> Reply:
        with self.lock:
            self.calls[call.kind] += 1
            call.nth = self.calls[call.kind]
        instead = self.fault(call)
        if instead is None:
            with self.lock:
                if call.kind.startswith("GET") and call.path.endswith("/batches"):
                    for made in self.made:  # who lists them looks at all of them
                        self.look(made)
                try:
                    self.check_key(call)
                    reply = self.route(call)
                except WrongError as error:
                    reply = self.error(400, str(error))
            instead = self.after(call) or reply
        return instead

    def check_key(self, call: Call) -> None:
        """Raises WrongError for a wrong one."""

    def route(self, call: Call) -> Reply:
        raise NotImplementedError

    def error(self, status: int, message: str, kind: str = "", **headers: str) -> Reply:
        """An error in the provider's words."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Reply(status, self.protocol.error(status, message, kind), named)

    # ---------------------------------------------------------------- batches

    def read(self, path: str, body: Any, headers: dict[str, str]) -> Ask:
        """A request of a batch."""
        ask = Ask(headers, body, 0, path, {}, self.protocol)
        try:
            self.protocol.check(ask)
        except WrongError as error:
            ask.wrong = str(error)
            self.wrongs.append(str(error))
        return ask

    def make(self, name: str, requests: list[tuple[str, Ask]], errors: list[Any]) -> Made:
        """A batch; every request of it is answered now."""
        made = Made(f"batch_{len(self.made) + 1}", name, [key for key, _ in requests], [])
        made.errors = errors
        if errors:
            made.state = "failed"
        else:
            for key, ask in requests:
                reply = ask.failure(400, ask.wrong) if ask.wrong else self.script(ask)
                if reply not in (EXPIRE, CANCEL):
                    self.asked[ask.prompt] += 1
                    ask.nth = self.asked[ask.prompt]
                made.outcomes.append((key, ask, reply))
        self.made.append(made)
        return made

    def look(self, made: Made) -> None:
        """Somebody asks how it stands."""
        made.looked += 1
        if made.state == "running" and not self.held and made.looked >= self.looks:
            expired = any(reply is EXPIRE for _, _, reply in made.outcomes)
            made.state = "expired" if expired else "ended"

    def find(self, id: str) -> Made | None:
        return next((made for made in self.made if made.id == id), None)

    def page(self, items: list[Any], call: Call, cursor: str) -> tuple[list[Any], bool]:
        """A page of a list, newest first."""
        after = call.query.get(cursor, [""])[0]
        newest = items[::-1]
        ids = [item["id"] for item in newest]
        start = ids.index(after) + 1 if after else 0
        size = min(int(call.query.get("limit", ["20"])[0]), 3)  # small, so that there are more
        return newest[start : start + size], start + size < len(newest)


# --------------------------------------------------------------------------- OpenAI


class OpenAIBatchServer(BatchServer):
    """Files and batches."""

    provider, variable = "openai", "OPENAI_API_KEY"

    def __init__(self, script: Script | None = None, protocol: Protocol | None = None) -> None:
        super().__init__(script)
        self.protocol = protocol or OpenAIChat()

    def route(self, call: Call) -> Reply:
        kind, id = call.kind, call.path.split("/")[3] if call.path.count("/") > 2 else ""
        if kind == "POST /v1/files":
            return self.upload(call)
        if kind == "GET /v1/files":
            every = [self.file(name) for name in self.files if name.startswith("file-in")]
            data, more = self.page(every, call, "after")
            return Reply(body={"object": "list", "data": data, "has_more": more})
        if kind == "GET /v1/files/*/content":
            return self.download(id)
        if kind == "POST /v1/batches":
            return self.create(call)
        if kind == "GET /v1/batches":
            data, more = self.page([self.batch(made) for made in self.made], call, "after")
            return Reply(body={"object": "list", "data": data, "has_more": more})
        made = self.find(id)
        if made is None:
            return self.error(404, f"No batch found with id '{id}'.")
        if kind == "POST /v1/batches/*/cancel":
            if made.state != "running":
                return self.error(409, f"Cannot cancel a batch with status '{made.state}'.")
            made.state = "cancelled"
        elif kind != "GET /v1/batches/*":
            return self.error(404, f"Invalid URL ({call.path})")
        else:
            self.look(made)
        return Reply(body=self.batch(made))

    def upload(self, call: Call) -> Reply:
        head = f"Content-Type: {call.headers['content-type']}\r\n\r\n".encode()
        form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + call.content)
        parts = {part.get_param("name", header="content-disposition"): part
                 for part in form.iter_parts()}  # fmt: skip
        if parts["purpose"].get_payload() != "batch":
            return self.error(400, "purpose must be batch")
        name = parts["file"].get_filename() or ""
        if not name.endswith(".jsonl"):
            return self.error(400, "Invalid file format for Batch API. Must be .jsonl")
        id = f"file-in{len(self.files) + 1}"
        self.files[id] = (name, parts["file"].get_payload(decode=True), time.time())
        return Reply(body=self.file(id))

    def file(self, id: str) -> dict[str, Any]:
        name, content, at = self.files[id]
        body = {
            "id": id,
            "object": "file",
            "bytes": len(content),
            "created_at": int(at),
            "filename": name,
            "purpose": "batch",
            "status": "processed",
        }
        FileObject.model_validate(body)
        return body

    def create(self, call: Call) -> Reply:
        body = call.json()
        wrong = faults(body, BatchCreateParams)
        if wrong:
            return self.error(400, "; ".join(wrong))
        _, content, _ = self.files[body["input_file_id"]]
        requests, errors = [], []
        for number, line in enumerate(content.splitlines(), 1):
            item = json.loads(line)
            fine = item.keys() == {"custom_id", "method", "url", "body"}
            if not fine or item["url"] != body["endpoint"] or item["method"] != "POST":
                errors.append({"code": "invalid_line", "line": number, "message": "bad line"})
            requests.append((item["custom_id"], self.read(item["url"], item["body"], call.headers)))
        if len({key for key, _ in requests}) < len(requests):
            errors.append({"code": "duplicate_custom_id", "message": "custom ids must be unique"})
        errors += self.refuse([ask for _, ask in requests])
        made = self.make(body["metadata"]["mmneedle"], requests, errors)
        made.extra = body
        return Reply(body=self.batch(made))

    def batch(self, made: Made) -> dict[str, Any]:
        names = {"running": "in_progress", "ended": "completed"}
        status = names.get(made.state, made.state)
        if made.state == "failed" and not made.looked:
            status = "validating"
        over = made.state in ("ended", "expired", "cancelled")
        good, bad = self.lines(made) if over else ([], [])
        body = {
            "id": made.id,
            "object": "batch",
            "endpoint": made.extra["endpoint"],
            "errors": {"object": "list", "data": made.errors} if status == "failed" else None,
            "input_file_id": made.extra["input_file_id"],
            "completion_window": "24h",
            "status": status,
            "output_file_id": f"file-out-{made.id}" if good else None,
            "error_file_id": f"file-err-{made.id}" if bad else None,
            "created_at": int(made.at),
            "request_counts": {
                "total": len(made.keys),
                "completed": len(good),
                "failed": len([line for line in bad if b"not_asked" not in line]),
            },
            "metadata": made.extra.get("metadata"),
        }
        OpenAIBatch.model_validate(body)
        return body

    def lines(self, made: Made) -> tuple[list[bytes], list[bytes]]:
        """Of the file of results and of that of errors."""
        good, bad = [], []
        for key, _, reply in made.outcomes:
            line: dict[str, Any] = {"id": f"batch_req_{key}", "custom_id": key, "error": None}
            if reply is LOSE:
                continue
            if reply is EXPIRE or (reply is CANCEL) or made.state == "cancelled":
                code = "batch_expired" if reply is EXPIRE else "batch_cancelled"
                line |= {"response": None, "error": {"code": code, "message": "not_asked"}}
                bad.append(json.dumps(line).encode())
                continue
            line["response"] = {
                "status_code": reply.status,
                "request_id": "req_1",
                "body": reply.body,
            }
            (good if reply.status == 200 else bad).append(json.dumps(line).encode())
        return good, bad

    def download(self, id: str) -> Reply:
        _, kind, batch = id.split("-")
        made = self.find(batch)
        if made is None or self.lose_results:
            return self.error(404, f"No such File object: {id}")
        lines = self.lines(made)[kind == "err"]
        body = b"".join(line + b"\n" for line in self.arrange(lines))
        return Reply(body=body, headers={"content-type": "application/octet-stream"})

    def check_key(self, call: Call) -> None:
        pass  # every request of a batch checks it, with the batch's headers


# --------------------------------------------------------------------------- Anthropic


class AnthropicBatchServer(BatchServer):
    """Message batches."""

    provider, variable = "anthropic", "ANTHROPIC_API_KEY"
    protocol = Anthropic()

    def route(self, call: Call) -> Reply:
        kind, id = call.kind, call.path.split("/")[4] if call.path.count("/") > 3 else ""
        if kind == "POST /v1/messages/batches":
            return self.create(call)
        if kind == "GET /v1/messages/batches":
            data, more = self.page([self.batch(made) for made in self.made], call, "after_id")
            ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
            none = {"first_id": None, "last_id": None}
            return Reply(body={"data": data, "has_more": more} | (ends or none))
        made = self.find(id)
        if made is None:
            return self.error(404, f"no batch {id}")
        if kind == "GET /v1/messages/batches/*/results":
            return self.results(made)
        if kind == "POST /v1/messages/batches/*/cancel":
            if made.state != "running":
                return self.error(400, "Batch has already ended")
            made.state = "cancelled"
        elif kind != "GET /v1/messages/batches/*":
            return self.error(404, f"not found: {call.path}")
        else:
            self.look(made)
        return Reply(body=self.batch(made))

    def create(self, call: Call) -> Reply:
        body = call.json()
        if body.keys() != {"requests"}:
            return self.error(400, "requests: field required")
        requests = []
        for item in body["requests"]:
            if item.keys() != {"custom_id", "params"} or not 0 < len(item["custom_id"]) <= 64:
                return self.error(400, "requests: not permitted")
            if not item["custom_id"].replace("_", "").replace("-", "").isalnum():
                return self.error(400, "custom_id: string should match pattern")
            ask = self.read("/v1/messages", item["params"], call.headers)
            requests.append((item["custom_id"], ask))
        if len({key for key, _ in requests}) < len(requests):
            return self.error(400, "custom_id must be unique")
        wrong = self.refuse([ask for _, ask in requests])
        if wrong:
            return self.error(400, wrong[0]["message"])
        return Reply(body=self.batch(self.make("", requests, [])))

    def batch(self, made: Made) -> dict[str, Any]:
        over = made.state != "running"
        counts = Counter(line["result"]["type"] for line in self.lines(made)) if over else {}
        start = datetime.fromtimestamp(made.at, UTC)
        body = {
            "id": made.id,
            "type": "message_batch",
            "processing_status": "ended" if over else "in_progress",
            "request_counts": {
                "processing": 0 if over else len(made.keys),
                **{kind: counts.get(kind, 0) for kind in
                   ("succeeded", "errored", "canceled", "expired")},
            },
            "created_at": start.isoformat(),
            "expires_at": (start + timedelta(hours=24)).isoformat(),
            "ended_at": start.isoformat() if over else None,
            "archived_at": None,
            "cancel_initiated_at": start.isoformat() if made.state == "cancelled" else None,
            "results_url": f"{self.origin}/v1/messages/batches/{made.id}/results" if over else None,
        }  # fmt: skip
        MessageBatch.model_validate(body)
        return body

    def lines(self, made: Made) -> list[dict[str, Any]]:
        lines = []
        for key, _, reply in made.outcomes:
            if reply is EXPIRE:
                result: dict[str, Any] = {"type": "expired"}
            elif reply is CANCEL or made.state == "cancelled":
                result = {"type": "canceled"}
            elif reply.status == 200:
                result = {"type": "succeeded", "message": reply.body}
            else:
                result = {"type": "errored", "error": reply.body}
            if reply is LOSE:
                result = {"type": "lost"}
            else:
                line = {"custom_id": key, "result": result}
                MessageBatchIndividualResponse.model_validate(line)
            lines.append({"custom_id": key, "result": result})
        return lines

    def results(self, made: Made) -> Reply:
        if self.lose_results:
            return self.error(404, "results are not available")
        lines = [
            json.dumps(line).encode()
            for line in self.lines(made)
            if line["result"]["type"] != "lost"
        ]
        body = b"".join(line + b"\n" for line in self.arrange(lines))
        return Reply(body=body, headers={"content-type": "application/x-jsonl"})


# --------------------------------------------------------------------------- Google


class GoogleBatchServer(BatchServer):
    """Files by resumable upload, and batches of generateContent."""

    provider, variable = "google", "GOOGLE_API_KEY"
    protocol = Google()

    def route(self, call: Call) -> Reply:
        call.path = call.path.replace("/v1/", "/v1beta/")  # the service has both
        last = call.path.rsplit("/", 1)[-1]
        if call.path == "/upload/v1beta/files":
            return self.begin(call)
        if call.path.startswith("/upload/"):
            return self.upload(call, last)
        if call.path.startswith("/v1beta/files/") and last.endswith(":download"):
            return self.download(last.removesuffix(":download"))
        if call.path.startswith("/v1beta/files/"):
            if last not in self.files or last.startswith("pending"):
                return self.error(403, f"no permission to access the File {last} or not exist")
            return Reply(body=self.file(last))
        if last.endswith(":batchGenerateContent"):
            return self.create(call, last.removesuffix(":batchGenerateContent"))
        if call.path == "/v1beta/batches":
            items = [self.job(made) | {"id": made.id} for made in self.made]
            call.query["limit"] = call.query.get("pageSize", ["20"])
            data, more = self.page(items, call, "pageToken")
            token = {"nextPageToken": data[-1]["id"]} if more else {}
            jobs = [{k: v for k, v in job.items() if k != "id"} for job in data]
            return Reply(body={"operations": jobs} | token)
        made = self.find(last.removesuffix(":cancel"))
        if made is None:
            return self.error(404, f"no batch {last}")
        if last.endswith(":cancel"):
            made.state = "cancelled" if made.state == "running" else made.state
            return Reply(body={})
        self.look(made)
        return Reply(body=self.job(made))

    def begin(self, call: Call) -> Reply:
        file = call.json()["file"]
        name = file["name"].removeprefix("files/")
        if name in self.files:
            return self.error(409, f"Requested entity already exists: {name}")
        size = call.headers["x-goog-upload-header-content-length"]
        where = f"{self.origin}/upload/v1beta/files/{name}?upload_id=1&upload_protocol=resumable"
        self.files[f"pending-{name}"] = (size, b"", time.time())
        return Reply(
            body={}, headers={"x-goog-upload-url": where, "x-goog-upload-status": "active"}
        )

    def upload(self, call: Call, name: str) -> Reply:
        size, content, _ = self.files[f"pending-{name}"]
        content += call.content
        self.files[f"pending-{name}"] = (size, content, time.time())
        if "finalize" not in call.headers["x-goog-upload-command"]:
            return Reply(body={}, headers={"x-goog-upload-status": "active"})
        if len(content) != int(size):
            return self.error(400, "size does not fit")
        self.files[name] = self.files.pop(f"pending-{name}")
        return Reply(body={"file": self.file(name)}, headers={"x-goog-upload-status": "final"})

    def file(self, name: str) -> dict[str, Any]:
        _, content, _ = self.files[name]
        body = {
            "name": f"files/{name}",
            "displayName": name,
            "mimeType": "jsonl",
            "sizeBytes": str(len(content)),
            "state": "ACTIVE",
            "source": "UPLOADED",
            "uri": f"{self.origin}/v1beta/files/{name}",
        }
        google_types.File.model_validate(body)
        return body

    def create(self, call: Call, model: str) -> Reply:
        batch = call.json()["batch"]
        name = batch["inputConfig"]["fileName"].removeprefix("files/")
        _, content, _ = self.files[name]
        requests = []
        for line in content.splitlines():
            item = json.loads(line)
            path = f"/v1beta/models/{model}:generateContent"
            requests.append((item["key"], self.read(path, item["request"], call.headers)))
        errors = self.refuse([ask for _, ask in requests])
        made = self.make(batch["displayName"], requests, errors)
        return Reply(body=self.job(made))

    def job(self, made: Made) -> dict[str, Any]:
        state = {"ended": "SUCCEEDED"}.get(made.state, made.state.upper())
        over = made.state == "ended"
        lines = self.lines(made) if over else []
        good = len([line for line in lines if "response" in line])
        stats = {"requestCount": str(len(made.keys)), "successfulRequestCount": str(good),
                 "failedRequestCount": str(len(lines) - good)}  # fmt: skip
        metadata = {
            "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
            "model": "models/m",
            "displayName": made.name,
            "createTime": datetime.fromtimestamp(made.at, UTC).isoformat(),
            "state": f"BATCH_STATE_{state}",
            "batchStats": stats,
            "name": f"batches/{made.id}",
        }
        if over:
            metadata["output"] = {"responsesFile": f"files/batch-{made.id}"}
        job = {"name": f"batches/{made.id}", "metadata": metadata, "done": over}
        if made.errors:
            job["error"] = made.errors[0]
        return job

    def lines(self, made: Made) -> list[dict[str, Any]]:
        lines = []
        for key, _, reply in made.outcomes:
            if reply is LOSE or reply in (EXPIRE, CANCEL):
                continue
            if reply.status == 200:
                lines.append({"key": key, "response": reply.body})
            else:
                code = {400: 3, 429: 8, 500: 13, 503: 14, 403: 7, 404: 5}[reply.status]
                error = {"code": code, "message": reply.body["error"]["message"]}
                lines.append({"key": key, "error": error})
        return lines

    def download(self, name: str) -> Reply:
        made = self.find(name.removeprefix("batch-"))
        if made is None or self.lose_results:
            return self.error(404, f"no file {name}")
        lines = [json.dumps(line).encode() for line in self.lines(made)]
        return Reply(body=b"".join(line + b"\n" for line in self.arrange(lines)))


SERVERS = [OpenAIBatchServer, AnthropicBatchServer, GoogleBatchServer]
