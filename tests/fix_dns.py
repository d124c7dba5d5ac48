"""Names: a server that answers TXT questions as it is told, and addresses that are all here."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from aiohttp.abc import AbstractResolver, ResolveResult

UDP_BYTES = 1232
"""A longer answer is cut, and asked for again over TCP."""


class Here(AbstractResolver):
    """Every name but ``*.gone`` is this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if host.endswith(".gone"):
            raise OSError(f"no such host: {host}")
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        pass


class NameServer(asyncio.DatagramProtocol):
    """Answers from a table; a number in it is a response code, None is silence.

    ``otherwise`` is the answer for what the table does not have; ``asked`` are the names.
    """

    def __init__(self) -> None:
        self.table: dict[str, list[str] | int | None] = {}
        self.otherwise: list[str] | int | None = int(dns.rcode.NXDOMAIN)
        self.asked: list[str] = []
        self.by_tcp = 0

    @property
    def port(self) -> int:
        port: int = self.transport.get_extra_info("sockname")[1]
        return port

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        response = self.answer(data)
        if response is None:
            return
        wire = response.to_wire(max_size=65535)
        if len(wire) > UDP_BYTES:
            response.answer.clear()
            response.flags |= dns.flags.TC
            wire = response.to_wire()
        self.transport.sendto(wire, addr)

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One question over TCP."""
        self.by_tcp += 1
        size = int.from_bytes(await reader.readexactly(2), "big")
        response = self.answer(await reader.readexactly(size))
        if response is not None:
            wire = response.to_wire(max_size=65535)
            writer.write(len(wire).to_bytes(2, "big") + wire)
            await writer.drain()
        writer.close()

    def answer(self, data: bytes) -> dns.message.Message | None:
        query = dns.message.from_wire(data)
        name = query.question[0].name
        text = name.to_text().rstrip(".").lower()
        self.asked.append(text)
        found = self.table.get(text, self.otherwise)
        if found is None:
            return None
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if isinstance(found, int):
            response.set_rcode(dns.rcode.Rcode(found))
        elif found:
            texts = [
                " ".join(f'"{value[at : at + 255]}"' for at in range(0, len(value) or 1, 255))
                for value in found
            ]
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", *texts))
        return response


@asynccontextmanager
async def serve_names() -> AsyncIterator[NameServer]:
    """A name server on a free port of this machine; UDP and TCP have the same one."""
    loop = asyncio.get_running_loop()
    for attempt in range(10):
        transport, names = await loop.create_datagram_endpoint(
            NameServer, local_addr=("127.0.0.1", 0)
        )
        try:
            server = await asyncio.start_server(names.stream, "127.0.0.1", names.port)
        except OSError:  # that port is taken for TCP
            transport.close()
            if attempt == 9:
                raise
        else:
            break
    try:
        yield names
    finally:
        server.close()
        transport.close()
