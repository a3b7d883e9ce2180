"""``python -m tests.worker.bad_profiler TASK``: what a file may make of the process that reads it.

The file's first word says what.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    task = json.loads(Path(sys.argv[1]).read_bytes())
    what = Path(task["path"]).read_text(encoding="utf-8").split()[0]
    with os.fdopen(task["events"], "w", encoding="utf-8") as pipe:
        if what == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "hangs":
            time.sleep(600)
        if what == "lies":
            pipe.write('{"type": "profile", "profile": {"rows": "many"}}\n')
        if what == "floods":
            pipe.write("x" * 8_000_000 + "\n")
        if what == "fills":
            Path("large").write_bytes(bytes(2**24))
            pipe.write('{"type": "failure", "code": "internal", "message": "it is full"}\n')
        if what == "spies":
            secrets = [name for name in os.environ if name.endswith(("_URL", "_TOKEN"))]
            message = f"{secrets} {Path.cwd().name}"
            failure = {"type": "failure", "code": "internal", "message": message}
            pipe.write(json.dumps(failure) + "\n")
