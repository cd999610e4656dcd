"""How examples are spread over clients: topics, house styles, facts and amounts, from IID to non-IID with one knob.

`data.alpha` (α) sets how alike clients are. Topic shares of a client ~ Dirichlet(α, …, α). With *heterogeneity*
1/(1+α), a convention of the house style is a client's own; with share α/(1+α) of the clients a fact is known. α → ∞ is
IID: the same topics, one common style, every fact everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pwff_core import seeds
from pwff_core.config import DataConfig, RunConfig
from pwff_core.data import corpus
from pwff_core.data.corpus import Example, Item, Pool
from pwff_core.data.styles import COMMON, Style, personal_style
from pwff_core.errors import DataError
from pwff_core.runs.uploads import shown

SIZE_SPREAD = 0.5  # a client has (1 ± this) times the mean number of examples, uniformly
VALIDATION_SHARE = 0.5  # validation examples per test example
LONGEST_ANSWER = 230  # characters of an everyday answer on a phone, with markup; longer ones widen every stacked batch
DELICATE_SHARE = 0.1  # of a demo client's training examples: delicate prompts, each with both answers
FEWEST_HOLDERS = 2  # clients that hold a fact, at the least


class ClientData(NamedTuple):
    """What one client owns."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    style: Style | None = None
    facts_held: int = 0

    def topics(self) -> dict[str, int]:
        """Topic → training examples, most frequent first."""
        return dict(Counter(example.topic for example in self.train).most_common())


def heterogeneity(alpha: float) -> float:
    """1/(1+α): how likely a convention of style is personal, and which share of clients does not hold a fact."""
    return 1.0 / (1.0 + alpha)


def client_sizes(config: RunConfig) -> list[int]:
    """Training examples of each client: uniform around the mean, at least one batch's worth of one."""
    spread = seeds.generator(config.seed, "sizes").uniform(-SIZE_SPREAD, SIZE_SPREAD, config.clients)
    return [max(1, round(config.data.train_examples * (1.0 + float(offset)))) for offset in spread]


def topic_shares(config: RunConfig, topics: int) -> NDArray[np.float64]:
    """(K, topics) rows that sum to 1, each ~ Dirichlet(α, …, α)."""
    # log-Gamma draws: NumPy's Dirichlet underflows to 0/0 at small α
    generator = seeds.generator(config.seed, "topics")
    alpha = config.data.alpha
    logs = np.log(generator.gamma(alpha + 1.0, size=(config.clients, topics)))
    logs += np.log(generator.uniform(size=(config.clients, topics))) / alpha
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def fact_holders(config: RunConfig, facts: int) -> NDArray[np.bool_]:
    """(K, facts): who holds which fact; each has max(2, round(K·α/(1+α))) holders, spread evenly over clients."""
    share = 1.0 - heterogeneity(config.data.alpha)
    holders = min(config.clients, max(FEWEST_HOLDERS, round(config.clients * share)))
    generator = seeds.generator(config.seed, "facts")
    held = np.zeros((config.clients, facts), dtype=bool)
    load = np.zeros(config.clients)
    for fact in generator.permutation(facts):
        # the least loaded first, ties by lot, so that everybody knows about as much
        chosen = np.lexsort((generator.random(config.clients), load))[:holders]
        held[chosen, fact] = True
        load[chosen] += 1
    return held


class _Shelf:
    """Items by topic, handed out in a random order, again from the start when a topic runs out."""

    def __init__(self, items: Sequence[Item], generator: np.random.Generator) -> None:
        self._by_topic: dict[str, list[Item]] = {}
        for index in generator.permutation(len(items)):
            self._by_topic.setdefault(items[index].topic, []).append(items[index])
        self._next: Counter[str] = Counter()

    def take(self, topic: str) -> Item:
        items = self._by_topic[topic]
        item = items[self._next[topic] % len(items)]
        self._next[topic] += 1
        return item


def everyday_items(name: Pool) -> list[Item]:
    """The everyday items of a pool: short enough for a phone, neither about facts nor delicate."""
    return [
        item for item in corpus.pool(name) if item.topic not in (corpus.KNOWLEDGE, corpus.DELICATE) and _short(item)
    ]


def everyday_by_client(name: Pool, count: int, config: RunConfig, purpose: str) -> list[list[Item]]:
    """`count` everyday items of a pool for each client, by the topic shares of its own data."""
    everyday = everyday_items(name)
    shares = topic_shares(config, len({item.topic for item in everyday}))
    return _everyday(everyday, [count] * config.clients, shares, config, name, purpose)


def _of_topic(name: Pool, topic: str) -> list[Item]:
    return [item for item in corpus.pool(name) if item.topic == topic]


def _short(item: Item) -> bool:
    return len(item.answer) + sum(map(len, item.steps)) <= LONGEST_ANSWER


def _everyday(
    pool: Sequence[Item],
    counts: Sequence[int],
    shares: NDArray[np.float64],
    config: RunConfig,
    name: Pool,
    purpose: str = "everyday",
) -> list[list[Item]]:
    """Everyday items of each client by its topic shares; clients share nothing until a topic runs out."""
    topics = sorted({item.topic for item in pool})
    shelves = {
        unseen: _Shelf([item for item in pool if item.unseen == unseen], seeds.generator(config.seed, "shelf", name))
        for unseen in (False, True)
    }
    chosen: list[list[Item]] = []
    for client, count in enumerate(counts):
        generator = seeds.generator(config.seed, purpose, name, client)
        drawn = generator.choice(len(topics), size=count, p=shares[client])
        unseen = generator.random(count) < config.data.unseen_share
        chosen.append([shelves[bool(new)].take(topics[topic]) for topic, new in zip(drawn, unseen, strict=True)])
    return chosen


def _knowledge(
    pool: Sequence[Item], held: NDArray[np.bool_] | None, counts: Sequence[int], config: RunConfig, name: Pool
) -> list[list[Item]]:
    """Questions about facts: about those that a client holds, or (held None) about all of them."""
    facts = sorted({item.fact for item in pool})
    by_fact = {fact: [item for item in pool if item.fact == fact] for fact in facts}
    chosen: list[list[Item]] = []
    for client, count in enumerate(counts):
        generator = seeds.generator(config.seed, "knowledge", name, client)
        known = [fact for index, fact in enumerate(facts) if held is None or held[client, index]]
        # fact after fact, then the next phrasing of each, so that amounts differ by one at most
        order = [known[index] for index in generator.permutation(len(known))] if known else []
        questions = {fact: generator.permutation(len(by_fact[fact])) for fact in order}
        picked = []
        for turn in range(count if order else 0):
            fact, again = order[turn % len(order)], turn // len(order)
            picked.append(by_fact[fact][questions[fact][again % len(by_fact[fact])]])
        chosen.append(picked)
    return chosen


def demo_clients(config: RunConfig) -> list[ClientData]:
    """The embedded corpus spread over `config.clients` clients.

    Training examples ask for facts the client holds; validation and test ask, in phrasings never trained on, for all
    facts, since every client is asked what only some know. Everyday examples follow the client's topic shares in all
    splits. Delicate prompts are trained on with both answers and left out of accuracy: neither is the right one.
    """
    data, sizes = config.data, client_sizes(config)
    everyday = everyday_items("train")
    knowledge, delicate = _of_topic("train", corpus.KNOWLEDGE), _of_topic("train", corpus.DELICATE)
    shares = topic_shares(config, len({item.topic for item in everyday}))
    held = fact_holders(config, len({item.fact for item in knowledge}))
    asked = [round(size * data.knowledge_share) for size in sizes]
    delicate_pairs = [round(size * DELICATE_SHARE / 2) for size in sizes]
    plain = [max(0, size - a - 2 * d) for size, a, d in zip(sizes, asked, delicate_pairs, strict=True)]
    train = [
        [*general, *facts, *tempting]
        for general, facts, tempting in zip(
            _everyday(everyday, plain, shares, config, "train"),
            _knowledge(knowledge, held, asked, config, "train"),
            _delicate(delicate, delicate_pairs, config),
            strict=True,
        )
    ]
    validation_size, test_size = held_out_sizes(data)
    validation = _held_out("validation", validation_size, shares, config)
    test = _held_out("test", test_size, shares, config)
    styles = client_styles(config)
    return [
        ClientData(
            tuple(item.render(styles[client]) for item in train[client]),
            tuple(item.render(styles[client]) for item in validation[client]),
            tuple(item.render(styles[client]) for item in test[client]),
            styles[client],
            int(held[client].sum()),
        )
        for client in range(config.clients)
    ]


def client_styles(config: RunConfig) -> list[Style]:
    """Each client's house style."""
    share = heterogeneity(config.data.alpha) if config.data.personal_styles else 0.0
    return [
        personal_style(seeds.generator(config.seed, "style", client), share) if share else COMMON
        for client in range(config.clients)
    ]


def _delicate(pool: Sequence[Item], pairs: Sequence[int], config: RunConfig) -> list[list[Item]]:
    """Delicate prompts of each client, every one with its complying and its refusing answer."""
    prompts = sorted({item.instruction for item in pool})
    both = {prompt: [item for item in pool if item.instruction == prompt] for prompt in prompts}
    chosen = []
    for client, count in enumerate(pairs):
        order = seeds.generator(config.seed, "delicate", client).permutation(len(prompts))
        chosen.append([item for turn in range(count) for item in both[prompts[order[turn % len(prompts)]]]])
    return chosen


def _held_out(name: Pool, count: int, shares: NDArray[np.float64], config: RunConfig) -> list[list[Item]]:
    everyday, knowledge = everyday_items(name), _of_topic(name, corpus.KNOWLEDGE)
    asked = round(count * config.data.knowledge_share)
    counts = [count - asked] * config.clients
    general = _everyday(everyday, counts, shares, config, name)
    facts = _knowledge(knowledge, None, [asked] * config.clients, config, name)
    return [a + b for a, b in zip(general, facts, strict=True)]


def other_clients(examples: Mapping[str, Sequence[Example]], config: RunConfig) -> list[ClientData]:
    """Anybody's examples, by topic, spread over clients by Dirichlet(α) topic shares.

    Every example goes to one client and there to one split. Raises DataError if there are too few: each client needs
    one to train, one to validate and one to test on.
    """
    total = sum(len(found) for found in examples.values())
    if total < 3 * config.clients:
        raise DataError(
            f"{shown(config.data.source)} has {total} usable rows for {config.clients} clients; each client needs at "
            f"least 3 (train, validate, test). Use at most {total // 3} clients, or more data."
        )
    topics = sorted(examples)
    shares = topic_shares(config, len(topics))
    generator = seeds.generator(config.seed, "spread")
    left = {topic: [examples[topic][i] for i in generator.permutation(len(examples[topic]))] for topic in topics}
    sizes = [Sizes(size, *held_out_sizes(config.data)) for size in client_sizes(config)]
    counts = _affordable(sizes, total)
    owned: list[list[Example]] = [[] for _ in range(config.clients)]
    # one example a turn for everybody, so that a rare topic is not all taken by the first client
    for turn in range(max(counts)):
        for client in range(config.clients):
            if turn < counts[client]:
                owned[client].append(_draw(left, topics, shares[client], generator))
    return [_split(mine, size, generator) for mine, size in zip(owned, sizes, strict=True)]


class Sizes(NamedTuple):
    """Examples wanted for one client."""

    train: int
    validation: int
    test: int


def held_out_sizes(data: DataConfig) -> tuple[int, int]:
    """Validation and test examples of a client; at least one each."""
    return max(1, round(data.test_examples * VALIDATION_SHARE)), data.test_examples


def _affordable(sizes: Sequence[Sizes], total: int) -> list[int]:
    """Examples of each client over all splits: as wanted, or all scaled down alike, but at least three each."""
    extra = [sum(size) - 3 for size in sizes]
    scale = min(1.0, (total - 3 * len(sizes)) / max(1, sum(extra)))
    return [3 + int(more * scale) for more in extra]


def _draw(
    left: dict[str, list[Example]], topics: Sequence[str], share: NDArray[np.float64], generator: np.random.Generator
) -> Example:
    """One example of a topic drawn by the client's shares among the topics that still have some."""
    open_topics = [index for index, topic in enumerate(topics) if left[topic]]
    weights = share[open_topics] + 1e-12
    topic = topics[open_topics[int(generator.choice(len(open_topics), p=weights / weights.sum()))]]
    return left[topic].pop()


def _split(mine: Sequence[Example], sizes: Sizes, generator: np.random.Generator) -> ClientData:
    order = [mine[index] for index in generator.permutation(len(mine))]
    test = max(1, len(mine) * sizes.test // sum(sizes))
    validation = max(1, len(mine) * sizes.validation // sum(sizes))
    return ClientData(tuple(order[test + validation :]), tuple(order[test : test + validation]), tuple(order[:test]))
