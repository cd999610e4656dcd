"""Paper symbol ↔ name in code ↔ unit ↔ equation (arXiv 2404.13238v2, section V; textbook where marked)."""

from __future__ import annotations

from typing import NamedTuple


class Symbol(NamedTuple):
    """One quantity of the paper."""

    symbol: str
    name: str
    unit: str
    equation: str
    meaning: str


SYMBOLS: dict[str, Symbol] = {
    row.name: row
    for row in (
        Symbol("K", "clients", "", "", "number of clients"),
        Symbol("γ̄", "snr_db", "dB", "", "mean receive signal-to-noise ratio"),
        Symbol("P", "transmit_power_w", "W", "", "transmit power of a client"),
        Symbol("B", "bandwidth_hz", "Hz", "", "bandwidth of a client's own channel"),
        Symbol("h", "gain", "", "E[h] = 1; Rayleigh: h ~ Exp(1)", "power gain of the fading channel"),
        Symbol("S", "uplink_bits", "bit", "S = bits per number · numbers uploaded", "payload of a client's upload"),
        Symbol("R", "rate_bps", "bit/s", "R = B · log2(1 + γ̄·h)", "rate of the link"),
        Symbol("E[R]", "ergodic_rate_bps", "bit/s", "E[R] = B · e^(1/γ̄) · E1(1/γ̄) / ln 2", "mean rate under Rayleigh fading (textbook)"),
        Symbol("T", "delay_s", "s", "T = S / R, a round: the slowest client's", "time of an upload"),
        Symbol("E", "energy_j", "J", "E = P · T, a round: summed over clients", "transmit energy"),
        Symbol("λ", "helpfulness_weight", "", "harmlessness has 1 − λ", "a client's weight on helpfulness"),
        Symbol("b", "bottleneck", "", "2·d·b + b + d numbers an adapter", "inner width of an adapter"),
        Symbol("r", "rank", "", "2·d·r numbers a module", "rank of a LoRA module"),
        Symbol("α", "alpha", "", "", "Dirichlet concentration: small = non-IID, large = IID"),
        Symbol("η", "learning_rate", "", "", "AdamW's step size"),
        Symbol("T_c", "coherence_time_s", "s", "", "time over which the channel gain stays the same"),
    )
}  # fmt: skip
