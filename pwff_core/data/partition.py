"""How examples are spread over clients: topics, house styles, facts and amounts, from IID to non-IID with one knob.

`data.alpha` (α) sets how alike clients are. Topic shares of a client ~ Dirichlet(α, …, α). A convention of the house
style is personal with probability 1/(1+α), the *heterogeneity*. A share α/(1+α) of the clients holds a fact. α → ∞ is
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
from pwff_core.runs.uploads import source_name

SIZE_SPREAD = 0.5  # a client has (1 ± this) times the mean number of examples, uniformly
VALIDATION_SHARE = 0.5  # validation examples per test example
LONGEST_ANSWER = 230  # characters of an everyday answer, with markup; longer ones widen every stacked batch
DELICATE_SHARE = 0.1  # of a demo client's training examples: delicate prompts, each with both answers
FEWEST_HOLDERS = 2  # clients that hold a fact


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
    """1/(1+α): the probability that a convention of style is personal, and the share of clients without a fact."""
    return 1.0 / (1.0 + alpha)


def client_sizes(config: RunConfig) -> list[int]:
    """The number of training examples of each client: uniform around the mean, at least one."""
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
    """(K, facts): whether a client holds a fact. Each has max(2, round(K·α/(1+α))) holders, evenly spread."""
    share = 1.0 - heterogeneity(config.data.alpha)
    holders = min(config.clients, max(FEWEST_HOLDERS, round(config.clients * share)))
    generator = seeds.generator(config.seed, "facts")
    held = np.zeros((config.clients, facts), dtype=bool)
    load = np.zeros(config.clients)
    for fact in generator.permutation(facts):
        # clients with the fewest facts first, ties at random: all hold about as many
        clients = np.lexsort((generator.random(config.clients), load))[:holders]
        held[clients, fact] = True
        load[clients] += 1
    return held


class _Deck:
    """Items by topic in a random order, dealt one by one; a topic that runs out begins again."""

    def __init__(self, items: Sequence[Item], generator: np.random.Generator) -> None:
        self._by_topic: dict[str, list[Item]] = {}
        for index in generator.permutation(len(items)):
            self._by_topic.setdefault(items[index].topic, []).append(items[index])
        self._next: Counter[str] = Counter()

    def draw(self, topic: str) -> Item:
        items = self._by_topic[topic]
        item = items[self._next[topic] % len(items)]
        self._next[topic] += 1
        return item


def everyday_items(name: Pool) -> list[Item]:
    """The everyday items of a pool: short answers, neither about facts nor delicate."""
    return [
        item for item in corpus.pool(name) if item.topic not in (corpus.KNOWLEDGE, corpus.DELICATE) and _is_short(item)
    ]


def everyday_by_client(name: Pool, count: int, config: RunConfig, purpose: str) -> list[list[Item]]:
    """`count` everyday items of a pool for each client, by its topic shares."""
    everyday = everyday_items(name)
    shares = topic_shares(config, len({item.topic for item in everyday}))
    return _draw_everyday(everyday, [count] * config.clients, shares, config, name, purpose)


def _of_topic(name: Pool, topic: str) -> list[Item]:
    return [item for item in corpus.pool(name) if item.topic == topic]


def _is_short(item: Item) -> bool:
    return len(item.answer) + sum(map(len, item.steps)) <= LONGEST_ANSWER


def _draw_everyday(
    pool: Sequence[Item],
    counts: Sequence[int],
    shares: NDArray[np.float64],
    config: RunConfig,
    name: Pool,
    purpose: str = "everyday",
) -> list[list[Item]]:
    """Each client's everyday items, by its topic shares. Clients share no item until a topic runs out."""
    topics = sorted({item.topic for item in pool})
    decks = {
        unseen: _Deck([item for item in pool if item.unseen == unseen], seeds.generator(config.seed, "shelf", name))
        for unseen in (False, True)
    }
    items: list[list[Item]] = []
    for client, count in enumerate(counts):
        generator = seeds.generator(config.seed, purpose, name, client)
        drawn = generator.choice(len(topics), size=count, p=shares[client])
        unseen = generator.random(count) < config.data.unseen_share
        items.append([decks[bool(new)].draw(topics[topic]) for topic, new in zip(drawn, unseen, strict=True)])
    return items


def _draw_knowledge(
    pool: Sequence[Item], held: NDArray[np.bool_] | None, counts: Sequence[int], config: RunConfig, name: Pool
) -> list[list[Item]]:
    """Each client's questions about facts: those that it holds, or all of them if `held` is None."""
    facts = sorted({item.fact for item in pool})
    by_fact = {fact: [item for item in pool if item.fact == fact] for fact in facts}
    questions: list[list[Item]] = []
    for client, count in enumerate(counts):
        generator = seeds.generator(config.seed, "knowledge", name, client)
        own_facts = [fact for index, fact in enumerate(facts) if held is None or held[client, index]]
        # every fact once, then every fact in its next phrasing: the numbers of questions differ by one at most
        order = [own_facts[index] for index in generator.permutation(len(own_facts))] if own_facts else []
        phrasings = {fact: generator.permutation(len(by_fact[fact])) for fact in order}
        own_questions = []
        for turn in range(count if order else 0):
            fact, cycle = order[turn % len(order)], turn // len(order)
            own_questions.append(by_fact[fact][phrasings[fact][cycle % len(by_fact[fact])]])
        questions.append(own_questions)
    return questions


def demo_clients(config: RunConfig) -> list[ClientData]:
    """The embedded corpus spread over `config.clients` clients.

    Training examples ask for facts that the client holds; validation and test ask for all facts, in phrasings that are
    never trained on. Everyday examples follow the client's topic shares in all splits. Delicate prompts are trained on
    with both answers and left out of accuracy: neither is the right one.
    """
    data, sizes = config.data, client_sizes(config)
    everyday = everyday_items("train")
    knowledge, delicate = _of_topic("train", corpus.KNOWLEDGE), _of_topic("train", corpus.DELICATE)
    shares = topic_shares(config, len({item.topic for item in everyday}))
    held = fact_holders(config, len({item.fact for item in knowledge}))
    fact_counts = [round(size * data.knowledge_share) for size in sizes]
    pair_counts = [round(size * DELICATE_SHARE / 2) for size in sizes]
    everyday_counts = [max(0, size - f - 2 * p) for size, f, p in zip(sizes, fact_counts, pair_counts, strict=True)]
    train = [
        [*everyday_part, *knowledge_part, *delicate_part]
        for everyday_part, knowledge_part, delicate_part in zip(
            _draw_everyday(everyday, everyday_counts, shares, config, "train"),
            _draw_knowledge(knowledge, held, fact_counts, config, "train"),
            _draw_delicate(delicate, pair_counts, config),
            strict=True,
        )
    ]
    validation_size, test_size = held_out_sizes(data)
    validation = _draw_held_out("validation", validation_size, shares, config)
    test = _draw_held_out("test", test_size, shares, config)
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


def _draw_delicate(pool: Sequence[Item], counts: Sequence[int], config: RunConfig) -> list[list[Item]]:
    """Each client's delicate prompts, every one with its complying and its refusing answer."""
    prompts = sorted({item.instruction for item in pool})
    answers = {prompt: [item for item in pool if item.instruction == prompt] for prompt in prompts}
    items = []
    for client, count in enumerate(counts):
        order = seeds.generator(config.seed, "delicate", client).permutation(len(prompts))
        items.append([item for turn in range(count) for item in answers[prompts[order[turn % len(prompts)]]]])
    return items


def _draw_held_out(name: Pool, count: int, shares: NDArray[np.float64], config: RunConfig) -> list[list[Item]]:
    everyday, knowledge = everyday_items(name), _of_topic(name, corpus.KNOWLEDGE)
    fact_count = round(count * config.data.knowledge_share)
    counts = [count - fact_count] * config.clients
    general = _draw_everyday(everyday, counts, shares, config, name)
    facts = _draw_knowledge(knowledge, None, [fact_count] * config.clients, config, name)
    return [general_part + fact_part for general_part, fact_part in zip(general, facts, strict=True)]


def spread_examples(examples: Mapping[str, Sequence[Example]], config: RunConfig) -> list[ClientData]:
    """Examples of any source, by topic, spread over clients by Dirichlet(α) topic shares.

    Every example goes to one client and there to one split. DataError if there are too few: each client needs one to
    train, one to validate and one to test on.
    """
    total = sum(map(len, examples.values()))
    if total < 3 * config.clients:
        raise DataError(
            f"{source_name(config.data.source)} has {total} usable rows for {config.clients} clients; each client "
            f"needs at least 3 (train, validate, test). Use at most {total // 3} clients, or more data."
        )
    topics = sorted(examples)
    shares = topic_shares(config, len(topics))
    generator = seeds.generator(config.seed, "spread")
    left = {topic: [examples[topic][i] for i in generator.permutation(len(examples[topic]))] for topic in topics}
    sizes = [SplitSizes(size, *held_out_sizes(config.data)) for size in client_sizes(config)]
    counts = _scaled_counts(sizes, total)
    owned: list[list[Example]] = [[] for _ in range(config.clients)]
    # one example a turn for each client, so that the first one does not take all of a rare topic
    for turn in range(max(counts)):
        for client in range(config.clients):
            if turn < counts[client]:
                owned[client].append(_draw(left, topics, shares[client], generator))
    return [_split(own, size, generator) for own, size in zip(owned, sizes, strict=True)]


class SplitSizes(NamedTuple):
    """Examples wanted for one client."""

    train: int
    validation: int
    test: int


def held_out_sizes(data: DataConfig) -> tuple[int, int]:
    """Validation and test examples of a client; at least one each."""
    return max(1, round(data.test_examples * VALIDATION_SHARE)), data.test_examples


def _scaled_counts(sizes: Sequence[SplitSizes], total: int) -> list[int]:
    """The number of examples of each client, all splits together: as wanted, or scaled down alike, at least three."""
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


def _split(examples: Sequence[Example], sizes: SplitSizes, generator: np.random.Generator) -> ClientData:
    shuffled = [examples[index] for index in generator.permutation(len(examples))]
    test = max(1, len(examples) * sizes.test // sum(sizes))
    held_out = test + max(1, len(examples) * sizes.validation // sum(sizes))
    return ClientData(tuple(shuffled[held_out:]), tuple(shuffled[test:held_out]), tuple(shuffled[:test]))
