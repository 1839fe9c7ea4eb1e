"""An S3 server on loopback, in a process of its own: deltalake keeps Python's lock as it asks."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3

ACCESS_KEY, SECRET = "AKIDLOADER", "s3cr3tOfTheBucket/+="
SERVER = """
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class S3Server:
    """A server that runs; each test has a bucket of its own."""

    url: str
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def options(self) -> dict[str, str]:
        """What deltalake needs to reach it."""
        return {
            "aws_access_key_id": ACCESS_KEY,
            "aws_secret_access_key": SECRET,
            "endpoint_url": self.url,
            "aws_allow_http": "true",
        }

    def new_bucket(self) -> str:
        """The name of an empty bucket."""
        name = f"lake-{next(self._numbers)}"
        self._client().create_bucket(Bucket=name)
        return name

    def remove(self, url: str) -> None:
        """Removes all that is under a URL."""
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        for found in self._client().list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
            self._client().delete_object(Bucket=bucket, Key=found["Key"])

    def _client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """A server for the block, on a free port."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"NO_PROXY": "127.0.0.1"},
        text=True,
    ) as process:
        assert process.stdout
        yield S3Server(f"http://127.0.0.1:{int(process.stdout.readline())}")
        process.communicate(timeout=20)
