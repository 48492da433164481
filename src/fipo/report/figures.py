"""The figures of the report, in the order of the page: what each shows, by the keys of docs/metrics.md."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Unit = Literal["share", "number"]  # a share is a fraction that the page shows in percent


@dataclass(frozen=True, kw_only=True)
class Curve:
    key: str  # of metrics.jsonl
    label: str
    interval: tuple[str, str] | None = None  # the keys of its 95% interval, low and high


@dataclass(frozen=True, kw_only=True)
class Figure:
    title: str
    look_for: str  # one sentence
    series: tuple[Curve, ...]
    y: str  # what the vertical axis shows
    unit: Unit = "number"
    x: Curve = Curve(key="step", label="step")  # the horizontal axis

    def needs(self) -> list[str]:
        """Every key that it reads beside `step`."""
        intervals = [key for series in self.series for key in series.interval or ()]
        return [key for key in [self.x.key, *(series.key for series in self.series), *intervals] if key != "step"]


@dataclass(frozen=True, kw_only=True)
class Chapter:
    title: str
    figures: tuple[Figure, ...]


def all_figures() -> list[Figure]:
    return [figure for chapter in CHAPTERS for figure in chapter.figures]


def used_keys(figures: Iterable[Figure]) -> list[str]:
    """Each once."""
    return list(dict.fromkeys(key for figure in figures for key in figure.needs()))


def _evaluated(name: str, label: str) -> Curve:
    return Curve(key=f"eval/{name}", label=label, interval=(f"eval/ci/{name}/low", f"eval/ci/{name}/high"))


def _one(key: str, label: str) -> tuple[Curve, ...]:
    return (Curve(key=key, label=label),)


CHAPTERS = (
    Chapter(
        title="Accuracy",
        figures=(
            Figure(
                title="Held-out accuracy: avg@k and cons@k",
                look_for="Both should rise: avg@k is the accuracy of one sampled answer, cons@k that of the commonest.",
                y="accuracy",
                unit="share",
                series=(_evaluated("avg_at_k", "avg@k"), Curve(key="eval/cons_at_k", label="cons@k")),
            ),
            Figure(
                title="Held-out accuracy: pass@k and greedy",
                look_for="If avg@k rises and pass@k does not, the policy got surer of what it could do before.",
                y="accuracy",
                unit="share",
                series=(_evaluated("pass_at_k", "pass@k"), _evaluated("greedy", "greedy")),
            ),
            Figure(
                title="Accuracy against response length",
                look_for="Up and to the right, longer answers go with better ones; right alone is rambling.",
                y="avg@k",
                unit="share",
                x=Curve(key="eval/response_length/mean", label="mean response length (tokens)"),
                series=_one("eval/avg_at_k", "avg@k"),
            ),
            Figure(
                title="Training accuracy",
                look_for="It should rise; if held-out accuracy does not follow, the run learns its training problems.",
                y="accuracy",
                unit="share",
                series=_one("accuracy/mean", "accuracy"),
            ),
        ),
    ),
    Chapter(
        title="Response length",
        figures=(
            Figure(
                title="Mean response length",
                look_for="Growth together with accuracy is what FIPO's authors report; growth alone is rambling.",
                y="tokens",
                series=_one("response_length/mean", "mean"),
            ),
            Figure(
                title="Response length: minimum and quartiles",
                look_for="If all rise together the whole policy writes longer; if p75 alone does, it is a long tail.",
                y="tokens",
                series=(
                    Curve(key="response_length/p75", label="p75"),
                    Curve(key="response_length/p50", label="median"),
                    Curve(key="response_length/p25", label="p25"),
                    Curve(key="response_length/min", label="minimum"),
                ),
            ),
            Figure(
                title="Truncated responses",
                look_for="It should stay near zero: a truncated response has no answer to grade.",
                y="share of responses",
                unit="share",
                series=_one("response_length/truncated", "truncated"),
            ),
        ),
    ),
    Chapter(
        title="Training signal",
        figures=(
            Figure(
                title="Reward",
                look_for="It should rise; it is the mean over everything that was sampled, dropped groups included.",
                y="reward",
                series=_one("reward/mean", "reward"),
            ),
            Figure(
                title="Held-out reward",
                look_for="What a reward of your own says of held-out problems; +1 and -1 alone are the accuracy again.",
                y="reward",
                series=_one("eval/reward", "held-out reward"),
            ),
            Figure(
                title="Generation batches",
                look_for="A rise means that more groups are all right or all wrong and have to be sampled again.",
                y="batches per step",
                series=_one("groups/generation_batches", "generation batches"),
            ),
            Figure(
                title="Length-weighted advantage",
                look_for="Below zero, the longer responses are the worse ones, and training pushes lengths down.",
                y="advantage",
                series=_one("advantage/length_weighted_mean", "length-weighted mean"),
            ),
        ),
    ),
    Chapter(
        title="Policy",
        figures=(
            Figure(
                title="Policy KL",
                look_for="The signed drift of the policy within a step; spikes come before trouble.",
                y="nats per token",
                series=_one("policy/kl", "KL"),
            ),
            Figure(
                title="Gradient norm",
                look_for="Before clipping; a climb over many steps is instability.",
                y="L2 norm",
                series=_one("policy/grad_norm", "gradient norm"),
            ),
            Figure(
                title="Entropy",
                look_for="A slow fall is learning; a drop to zero means that sampling has nothing left to explore.",
                y="nats per token",
                series=_one("policy/entropy", "entropy"),
            ),
            Figure(
                title="Clipped tokens",
                look_for="The share of tokens whose update the clip held back; a rise means larger steps.",
                y="share of tokens",
                unit="share",
                series=(
                    Curve(key="policy/clip_fraction", label="clipped"),
                    Curve(key="policy/clip_fraction_low", label="of them low"),
                    Curve(key="policy/clip_fraction_high", label="of them high"),
                ),
            ),
            Figure(
                title="Dual-clipped tokens",
                look_for="It should be zero nearly always: each such token became many times likelier in one step.",
                y="share of tokens",
                unit="share",
                series=_one("policy/dual_clip_fraction", "dual-clipped"),
            ),
        ),
    ),
    Chapter(
        title="Influence weights",
        figures=(
            Figure(
                title="Influence weight f",
                look_for="1 means no influence, as in DAPO; a mean far from 1 acts as a step size.",
                y="mean of f",
                series=_one("fipo/influence_weight/mean", "mean"),
            ),
            Figure(
                title="Spread of f, before its bounds and in use",
                look_for="Below one hundredth before its bounds FIPO is DAPO; of DAPO it is what f would do.",
                y="standard deviation",
                series=(
                    Curve(key="fipo/raw_influence_weight/std", label="exp(FutureKL), before the bounds"),
                    Curve(key="fipo/influence_weight/std", label="f, in use"),
                ),
            ),
            Figure(
                title="Mean ratio",
                look_for="It should lie in the band around 1 in most steps; beyond it: reused responses, another "
                "sampler, few mixed groups, or rare large ratios, which leave most steps below.",
                y="mean of new / old",
                series=(
                    Curve(
                        key="fipo/ratio_mean",
                        label="mean ratio",
                        interval=("fipo/ratio_mean/low", "fipo/ratio_mean/high"),
                    ),
                ),
            ),
            Figure(
                title="Response signal",
                look_for="Above the band the log-ratios know good responses from bad; a step inside it may be chance.",
                y="correlation",
                series=(
                    Curve(
                        key="fipo/response_signal",
                        label="summed log-ratios and advantage",
                        interval=("fipo/response_signal/low", "fipo/response_signal/high"),
                    ),
                ),
            ),
            Figure(
                title="Rounding in the credit",
                look_for="Well below 1: at 1 the policy's arithmetic adds as much to the FutureKL as there is to tell.",
                y="sd of the error / sd of the signal",
                series=_one("fipo/future_kl_noise", "rounding of the FutureKL"),
            ),
            Figure(
                title="Influence weights at a bound",
                look_for="Where most sit at a bound other than 1, credit is a constant; at 1 f does nothing.",
                y="share of tokens",
                unit="share",
                series=(
                    Curve(key="fipo/influence_weight/clipped_low", label="at the lower bound"),
                    Curve(key="fipo/influence_weight/clipped_high", label="at the upper bound"),
                    Curve(key="fipo/safety_capped", label="capped for safety"),
                ),
            ),
        ),
    ),
    Chapter(
        title="Speed",
        figures=(
            Figure(
                title="Time of a step",
                look_for="Without evaluations and checkpoints; the figures beside it say where it goes.",
                y="seconds",
                series=_one("time/step", "step"),
            ),
            Figure(
                title="Time in generation",
                look_for="It grows with the response length, and with every batch that is sampled again.",
                y="seconds per step",
                series=_one("time/generate", "generate"),
            ),
            Figure(
                title="Time in the update",
                look_for="It grows with the tokens that are trained on and with the number of mini-batches.",
                y="seconds per step",
                series=_one("time/update", "update"),
            ),
            Figure(
                title="Time in the old log-probs",
                look_for="One forward pass over all mini-batches but the first.",
                y="seconds per step",
                series=_one("time/old_logprobs", "old log-probs"),
            ),
            Figure(
                title="Time in grading",
                look_for="It should be small; if it is not, more workers or a faster grader help.",
                y="seconds per step",
                series=_one("time/grade", "grade"),
            ),
            Figure(
                title="Tokens per second",
                look_for="Sampled tokens by the whole step's time; with steady phases a fall is time spent elsewhere.",
                y="tokens per second",
                series=_one("time/tokens_per_second", "whole step"),
            ),
        ),
    ),
)
