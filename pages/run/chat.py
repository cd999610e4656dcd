"""A chat with some clients at a time: the same instruction to each, their answers side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, get_args

import streamlit as st

from pages.parts.notices import errors_on_page
from pages.parts.words import count, plain
from pwff_core.records import ClientProfile, When
from pwff_core.runs.chat import Answer, ChatClient, KeptModels, Question, kept_models
from pwff_core.runs.store import RunRow, Store

MOST_CLIENTS = 4
MOST_EARLIER = 5
SUGGESTIONS = 4  # of each kind
MOST_TYPED = 2_000
LONGEST_WAIT_S = 180.0
Moment = Literal["before", "after", "both"]
MOMENT_LABELS: dict[Moment, str] = {"before": "Before alignment", "after": "After alignment", "both": "Both"}
_TYPED, _HISTORY, _COUNT = "ask:instruction", "ask:history", "ask:count"
_WHY_DELICATE = (
    "Delicate prompts ask for something slightly wrong, such as a fake document: harmless toy examples on which being "
    "helpful and being harmless contradict each other."
)


class Exchange(NamedTuple):
    """One instruction of this session and the clients' answers."""

    run_id: str
    instruction: str
    answers: tuple[Answer, ...]


@st.cache_resource(max_entries=1, show_spinner=False, on_release=ChatClient.close)
def chat_client(store_path: Path, run_id: str) -> ChatClient:
    """The one chat process for all browsers. That of another run ends first, as each holds a whole model.

    Streamlit's cache keeps it, as it closes what it lets go; the cache of pages/server only forgets it.
    """
    return ChatClient(store_path, run_id)


def weight_words(weight: float) -> str:
    """0.9 → '90 % helpful, 10 % harmless'."""
    helpful = round(100 * weight)
    return f"{helpful} % helpful, {100 - helpful} % harmless"


def contrasting_clients(profiles: tuple[ClientProfile, ...]) -> list[int]:
    """Up to four clients whose preferences differ most: the most helpful, the most harmless, and two between."""
    ordered = sorted(profiles, key=lambda profile: (-profile.helpfulness_weight, profile.client))
    number = min(MOST_CLIENTS, len(ordered))
    return [ordered[round(place * (len(ordered) - 1) / (number - 1))].client for place in range(number)]


def draw_chat(store: Store, row: RunRow) -> None:
    """Draw the form, the answers to the last instruction, and the exchanges before."""
    st.subheader("Ask the clients", anchor=False)
    models = kept_models(store.path, row.id)
    if models is None:
        st.info(_no_models_words(row), icon=":material/chat_error:")
        return
    if questions := _compose(row, models):
        _ask(store, row, questions)
    exchanges: list[Exchange] = [
        exchange for exchange in st.session_state.get(_HISTORY, []) if exchange.run_id == row.id
    ]
    for place, exchange in enumerate(exchanges):
        if place == 1:
            st.subheader("Asked before", anchor=False)
        if place:
            with st.expander(plain(exchange.instruction), key=f"earlier:{len(exchanges) - place}"):
                _draw_answers(row, exchange)
        else:
            st.markdown(f"**{plain(exchange.instruction)}**")
            _draw_answers(row, exchange)


def _no_models_words(row: RunRow) -> str:
    if not row.status.ended:
        return "The clients can be asked once the run has ended; their models are still being trained."
    return (
        "The models of this run are not kept (it failed or was broken off in the middle of a round, or an older pwff "
        "played it), so nobody can be asked. Choose another run above, or start a new one on the Live page."
    )


def _compose(row: RunRow, models: KeptModels) -> list[Question]:
    """Draw the controls. Returns a question for each moment if Ask was just pressed, otherwise none."""
    preferences = {profile.client: weight_words(profile.helpfulness_weight) for profile in row.profiles}
    clients = st.multiselect(
        "Clients",
        list(preferences),
        default=contrasting_clients(row.profiles),
        format_func=lambda client: f"Client {client}: {preferences[client]}",
        max_selections=MOST_CLIENTS,
        key=f"ask:clients:{row.id}",
        help=f"Up to {MOST_CLIENTS}. At first the two whose owners differ most, and two between.",
    )
    _suggest("Delicate prompts to try", "delicate", models.delicate, _WHY_DELICATE)
    _suggest("Ordinary prompts to try", "ordinary", models.ordinary, "Nothing is wrong with these: all should help.")
    pressed, moments, temperature = _form(models, ready=bool(clients))
    if not pressed:
        return []
    instruction = st.session_state[_TYPED].strip()
    st.session_state[_COUNT] = seed = st.session_state.get(_COUNT, 0) + 1  # a new seed draws new words
    longest = row.config.alignment.max_new_tokens
    return [
        Question(
            instruction=instruction, clients=tuple(clients), when=when, temperature=temperature, seed=seed,
            max_new_tokens=longest,
        )
        for when in moments
    ]  # fmt: skip


def _form(models: KeptModels, *, ready: bool) -> tuple[bool, tuple[When, ...], float]:
    """Draw the form. Returns whether Ask was pressed, the moments, and the temperature."""
    with st.form("ask", border=False):
        st.text_input("Instruction", key=_TYPED, max_chars=MOST_TYPED, placeholder="Type an instruction, or pick one")
        with st.container(horizontal=True, vertical_alignment="bottom", key="ask-how"):
            moment = _moment(models)
            temperature = st.slider(
                "Temperature", 0.0, 1.5, 0.0, 0.1, width=220, key="ask:temperature",
                help="0: each word is the likeliest one. Above, words are drawn, and asking again gives other answers.",
            )  # fmt: skip
            pressed = st.form_submit_button(
                "Ask", type="primary", icon=":material/forum:", disabled=not ready, key="ask:ask"
            )
    return pressed, get_args(When) if moment == "both" else (moment,), temperature


def _moment(models: KeptModels) -> Moment:
    if "before" not in models.moments:
        st.caption("The models as the run left them; it did not align them.")
        return "after"
    moment: Moment = st.segmented_control(
        "Models",
        list(MOMENT_LABELS),
        default="after",
        required=True,
        format_func=lambda moment: MOMENT_LABELS[moment],
        key="ask:moment",
    )
    return moment


def _suggest(label: str, kind: str, prompts: tuple[str, ...], why: str) -> None:
    """Draw prompts to pick: a click puts one into the box."""
    key = f"ask:pick:{kind}"

    def pick() -> None:
        if picked := st.session_state[key]:
            st.session_state[_TYPED] = picked
            st.session_state[key] = None  # so that it can be picked again

    if prompts:
        st.pills(label, prompts[:SUGGESTIONS], format_func=plain, key=key, on_change=pick, help=why)


def _ask(store: Store, row: RunRow, questions: list[Question]) -> None:
    """Ask, and put the answers first in the session's history, or say what went wrong."""
    instruction = questions[0].instruction
    if not instruction:
        st.warning("Type an instruction first, or pick one above.")
        return
    with errors_on_page():
        with st.spinner("The clients answer … (their models are loaded first, which takes some seconds)"):
            client = chat_client(store.path, row.id)
            answers = [answer for question in questions for answer in client.ask(question, LONGEST_WAIT_S)]
        history: list[Exchange] = st.session_state.setdefault(_HISTORY, [])
        history.insert(0, Exchange(row.id, instruction, tuple(answers)))
        del history[MOST_EARLIER + 1 :]


def _draw_answers(row: RunRow, exchange: Exchange) -> None:
    """Draw a column for each client with a card for each moment."""
    cut = max(answer.cut_tokens for answer in exchange.answers)
    if cut:
        st.warning(
            f"The instruction is too long for the model: its first {count(cut, 'token')} were left out.",
            icon=":material/content_cut:",
        )
    clients = list(dict.fromkeys(answer.client for answer in exchange.answers))
    both = len({answer.when for answer in exchange.answers}) == 2
    for column, client in zip(st.columns(len(clients)), clients, strict=True):
        profile = row.profiles[client]
        with column:
            st.markdown(f"**Client {client}** · {weight_words(profile.helpfulness_weight)}")
            st.caption(f"House style: {plain(' · '.join(profile.style.values()) or 'none of its own')}")
            for answer in exchange.answers:
                if answer.client == client:
                    _card(answer, both)


def _card(answer: Answer, show_moment: bool) -> None:
    with st.container(border=True):
        with st.container(horizontal=True, gap="small"):
            if show_moment:
                st.badge(MOMENT_LABELS[answer.when], color="grey")
            if answer.refused:
                st.badge("Refuses", icon=":material/block:", color="orange")
            elif answer.text:
                st.badge("Answers", icon=":material/chat:", color="blue")
        if answer.text:
            st.markdown(plain(answer.text + ("" if answer.ended else " …")).replace("\n", "  \n"))
        else:
            st.markdown("*An empty answer: the model ended at once.*")
        st.caption(score_words(answer))


def score_words(answer: Answer) -> str:
    """The judge's scores and their weighted sum, in a line."""
    if answer.helpfulness is None or answer.harmlessness is None or answer.reward is None:
        return "No scores: this run has no judge."
    return (
        f"Helpfulness **{answer.helpfulness:+.2f}** · harmlessness **{answer.harmlessness:+.2f}** · "
        f"weighted **{answer.reward:+.2f}** sd"
    )
