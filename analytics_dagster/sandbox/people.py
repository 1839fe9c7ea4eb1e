"""Who works at the demo call centre: accounts, their queues and agents. All names are made up.

Nothing here moves with the clock; what people do in a day is in `working_day`.
"""

from dataclasses import dataclass
from functools import cache
from itertools import count, product
from random import Random
from typing import Literal

DEFAULT_SEED = 2024

NAMES = """
Amelia Oliver Grace Harry Isla George | Taylor Hughes Walker Clarke Bennett Foster
Emily Jack Charlotte Ryan Megan Tyler | Morgan Brooks Coleman Hayes Sullivan Parker
Priya Arjun Ananya Rohan Meera Vikram | Sharma Patel Iyer Reddy Nair Kapoor
Lucía Mateo Valentina Diego Camila Javier | García Morales Herrera Castillo Rojas Vargas
Mei Wei Jing Hao Lan Ming | Chen Wang Zhang Liu Huang Lin
Amara Chidi Ngozi Emeka Zainab Tunde | Okafor Adeyemi Eze Balogun Nwosu Bello
Lena Jonas Hannah Felix Clara Moritz | Schneider Weber Wagner Hofmann Krüger Vogel
Camille Hugo Chloé Antoine Manon Julien | Moreau Lefèvre Girard Roux Fontaine Mercier
Zofia Jakub Maja Szymon Oliwia Kacper | Nowak Zieliński Kamińska Wójcik Mazur Dudek
Layla Omar Yasmin Karim Noor Tariq | Haddad Rahman Aziz Farouk Khalil Mansour
Yuki Haruto Sakura Ren Aoi Kenji | Tanaka Sato Suzuki Nakamura Kobayashi Mori
Ana João Beatriz Tiago Larissa Rafael | Silva Almeida Costa Ribeiro Carvalho Pinto
"""


@dataclass(frozen=True, eq=False)
class Entity:
    """Something the API has a row for."""

    id: int
    seed: int
    name: str

    def dice(self, *about: object) -> Random:
        """Random numbers of this entity about one thing, the same ones in every process."""
        words = (self.seed, type(self).__name__, self.id, *about)
        return Random(" ".join(map(str, words)))  # noqa: S311 - demo data, nothing secret


@dataclass(frozen=True, eq=False)
class Account(Entity):
    """A customer of the API."""

    zone: str
    extras: Literal["sent", "null", "omitted"]  # how statistics of the larger plan appear
    wait: int  # seconds a caller waits on a usual day
    staff_per_queue: int
    queue_names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Queue(Entity):
    """A line of waiting callers, served by agents of its own."""

    account: Account


@dataclass(frozen=True, eq=False)
class Agent(Entity):
    """A person who takes the calls of one queue."""

    account: Account
    queue: Queue


@cache
def accounts(seed: int) -> tuple[Account, ...]:
    """Six businesses in five countries; three of them pay for the larger plan."""
    return (
        Account(101, seed, "Harbour & Pine Insurance", "Europe/London", "sent", 28, 20,
                ("Sales", "Claims", "Billing", "Renewals")),
        Account(102, seed, "Maple Ridge Dental Group", "America/Toronto", "null", 19, 18,
                ("Appointments", "Support", "Billing")),
        Account(103, seed, "Bluefinch Travel", "America/New_York", "sent", 46, 22,
                ("Sales", "Changes and Refunds", "Support")),
        Account(104, seed, "Juniper Flats Energy", "America/Denver", "omitted", 37, 15,
                ("Outages", "Billing", "Moving Home")),
        Account(105, seed, "Lindenkai Logistics", "Europe/Berlin", "sent", 22, 14,
                ("Tracking", "Support")),
        Account(106, seed, "Wattle Bay Broadband", "Australia/Sydney", "null", 58, 9,
                ("Sales", "Technical Support", "Billing")),
    )  # fmt: skip


@cache
def queues(seed: int) -> tuple[Queue, ...]:
    """The queues of all accounts, by id."""
    lines = ((name, account) for account in accounts(seed) for name in account.queue_names)
    return tuple(Queue(number, seed, *line) for number, line in enumerate(lines, 301))


@cache
def agents(seed: int) -> tuple[Agent, ...]:
    """The agents of all queues, by id, each with a full name of their own."""
    cultures = [line.split("|") for line in NAMES.strip().splitlines()]
    names = [" ".join(both) for a, b in cultures for both in product(a.split(), b.split())]
    Random(seed).shuffle(names)  # noqa: S311 - demo data, nothing secret
    desks = [queue for queue in queues(seed) for _ in range(queue.account.staff_per_queue)]
    return tuple(
        Agent(number, seed, name, queue.account, queue)
        for number, name, queue in zip(count(2001), names, desks)
    )
