"""Turn the measurements of a benchmark into its key numbers (JSON) and a page of tables (Markdown).

    python workflow/scripts/summarise_benchmark.py --regulariser results/benchmarks/regulariser.csv \\
        --pair results/benchmarks/pair.csv --methods results/benchmarks/methods.csv \\
        --packs results/benchmarks/packs.csv --limit results/benchmarks/limit.csv \\
        --peers results/benchmarks/peers.csv --threads 2 \\
        --summary results/benchmarks/summary.json --markdown results/benchmarks/summary.md

Every key of the JSON is a ratio of medians; null where its measurement was not made.
"""

import argparse
import json

import numpy as np
import pandas as pd

from hnetcl.files import written_whole
from hnetcl.records import method_rank

SPLIT, PERMUTED, PERMUTED_100 = "SplitMNIST", "PermutedMNIST-10", "PermutedMNIST-100"
HNET, DIRECT, HYPERCL = "HNET+ENT", "None (fine-tune)", "chrhenning/hypercl"
MEANINGS = {
    "regulariser_speedup_t99": "explicit over exact regulariser, 99 earlier tasks, PermutedMNIST-100",
    "regulariser_growth": "exact regulariser, 99 over 9 earlier tasks, PermutedMNIST-10",
    "hnet_over_plain_split": "iteration of HNET over direct training, SplitMNIST",
    "hnet_over_plain_permuted": "the same, PermutedMNIST-10",
    "task10_over_task2": "iteration of HNET at task 10 over task 2, PermutedMNIST-10",
    "fraction_of_limit_split": "least possible over measured time of HNET's iteration, SplitMNIST",
    "fraction_of_limit_permuted": "the same, PermutedMNIST-10",
    "hypercl_over_ours_split": "iteration of the authors' code over ours, HNET in CL1, SplitMNIST",
    "hypercl_over_ours_permuted": "the same, PermutedMNIST-10",
    "pack20_over_pack1": "iteration of 20 seeds at once over one seed, PermutedMNIST-10, on a GPU",
}
TABLES = ("regulariser", "pair", "methods", "packs", "limit", "peers")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for table in TABLES:
        parser.add_argument(f"--{table}", required=True, metavar="CSV", nargs="+")
    parser.add_argument("--threads", required=True, type=int, help="CPU threads that were used")
    parser.add_argument("--summary", required=True, metavar="JSON", help="written: the key numbers")
    parser.add_argument("--markdown", required=True, metavar="MD", help="written: all tables")
    arguments = parser.parse_args()
    tables = {
        name: pd.concat([pd.read_csv(path, keep_default_na=False, na_values=[""]) for path in getattr(arguments, name)])
        for name in TABLES
    }
    machine = describe_machine(tables, arguments.threads)
    keys = key_numbers(**tables)
    with written_whole(arguments.summary) as aside:
        aside.write_text(json.dumps({**keys, "machine": machine}, indent=2) + "\n")
    with written_whole(arguments.markdown) as aside:
        aside.write_text(page(keys, machine, tables))


def key_numbers(
    regulariser: pd.DataFrame,
    pair: pd.DataFrame,
    methods: pd.DataFrame,
    packs: pd.DataFrame,
    limit: pd.DataFrame,
    peers: pd.DataFrame,
) -> dict[str, float | None]:
    """Return the ratios that sum up a benchmark."""
    cost = regulariser.set_index(["experiment", "form", "tasks"])["milliseconds"]
    alone = pair.pivot_table("milliseconds", ["experiment", "task"], "method")
    hnet = alone.get(HNET, pd.Series(dtype=float))
    fractions = limit.dropna(subset="fraction_of_limit").set_index("experiment")["fraction_of_limit"]
    theirs = peers[peers["peer"] == HYPERCL].set_index("experiment")["ratio"]
    on_gpu = packs[
        ~packs["device"].str.startswith("cpu") & (packs["experiment"] == PERMUTED) & (packs["method"] == HNET)
    ]
    by_pack = on_gpu.groupby("seeds_in_pack")["milliseconds"].mean()

    def over_plain(title: str) -> float | None:
        if title not in alone.index:
            return None
        means = alone.loc[title].mean()
        return _ratio(means.get(HNET), means.get(DIRECT))

    return {
        "regulariser_speedup_t99": _ratio(
            cost.get((PERMUTED_100, "explicit", 99)), cost.get((PERMUTED_100, "exact", 99))
        ),
        "regulariser_growth": _ratio(cost.get((PERMUTED, "exact", 99)), cost.get((PERMUTED, "exact", 9))),
        "hnet_over_plain_split": over_plain(SPLIT),
        "hnet_over_plain_permuted": over_plain(PERMUTED),
        "task10_over_task2": _ratio(hnet.get((PERMUTED, 10)), hnet.get((PERMUTED, 2))),
        "fraction_of_limit_split": _ratio(fractions.get(SPLIT), 1),
        "fraction_of_limit_permuted": _ratio(fractions.get(PERMUTED), 1),
        "hypercl_over_ours_split": _ratio(theirs.get(SPLIT), 1),
        "hypercl_over_ours_permuted": _ratio(theirs.get(PERMUTED), 1),
        "pack20_over_pack1": _ratio(by_pack.get(20), by_pack.get(1)),
    }


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    if numerator is None or denominator is None or np.isnan(numerator) or np.isnan(denominator):
        return None
    return round(float(numerator / denominator), 3)


def describe_machine(tables: dict[str, pd.DataFrame], threads: int) -> dict[str, str | int]:
    """Return what was measured on, and when, as the measurements say."""
    processors, cores, dates = (
        sorted({value for table in tables.values() for value in table[key]}) for key in ("processor", "cores", "date")
    )
    return {
        "processor": " and ".join(processors),
        "cores": int(max(cores)),
        "threads": threads,
        "device": tables["pair"]["device"].iloc[0],
        "date": " to ".join(dict.fromkeys((dates[0], dates[-1]))),
    }


def key_table(keys: dict[str, float | None], machine: dict) -> str:
    """Return the key numbers, what they are, and where they were measured, as Markdown."""
    where = "" if machine["device"] == "cpu" else f", {machine['device']}"
    rows = [(name, MEANINGS[name], "not measured" if value is None else f"{value:.2f}") for name, value in keys.items()]
    table = pd.DataFrame(rows, columns=["key", "what", "ratio"])
    return (
        table.to_markdown(index=False, disable_numparse=True, colalign=("left", "left", "right"))
        + f"\n\n{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads{where}, "
        f"{machine['date']}; ratios of medians.\n"
    )


def page(keys: dict[str, float | None], machine: dict, tables: dict[str, pd.DataFrame]) -> str:
    """Return all tables as Markdown."""
    parts = [
        key_table(keys, machine).rstrip(),
        "**The output regulariser**, milliseconds for its gradient by the number of earlier tasks",
        _markdown(tables["regulariser"].pivot_table("milliseconds", ["experiment", "form"], "tasks")),
        "**Its memory**, MiB at most, what is stored for the whole task included",
        _markdown(tables["regulariser"].pivot_table("peak_mb", ["experiment", "form"], "tasks"), 0),
        "**HNET and direct training, alone**, milliseconds an iteration by task",
        _markdown(tables["pair"].pivot_table("milliseconds", ["experiment", "method"], "task")),
        "**Every method**, milliseconds an iteration, mean over the tasks measured",
        _markdown(_by_method(tables["methods"])),
        "**Packs of seeds**, milliseconds an iteration and seed",
        _markdown(_by_pack(tables["packs"])),
        "**Against the limit**: the least milliseconds that each part of an iteration of HNET could take",
        _markdown(_against_limit(tables["limit"])),
    ]
    if len(tables["peers"]):
        parts += [
            "**Other repositories**, milliseconds an iteration",
            tables["peers"].drop(columns=["processor", "cores", "date"]).to_markdown(index=False, floatfmt=".2f"),
        ]
    return "\n\n".join(parts) + "\n"


def _by_method(methods: pd.DataFrame) -> pd.DataFrame:
    means = methods.pivot_table("milliseconds", "method", ["experiment", "scenarios"], aggfunc="mean", sort=False)
    means.columns = [f"{experiment}, {scenarios}" for experiment, scenarios in means.columns]
    return means.loc[sorted(means.index, key=method_rank)]


def _by_pack(packs: pd.DataFrame) -> pd.DataFrame:
    one = packs.assign(milliseconds=packs["milliseconds"] / packs["seeds_in_pack"])
    return one.pivot_table("milliseconds", ["experiment", "method"], "seeds_in_pack")


def _against_limit(limit: pd.DataFrame) -> pd.DataFrame:
    parts = limit.pivot_table("limit_milliseconds", "part", "experiment", sort=False)
    extra = limit.dropna(subset="fraction_of_limit").set_index("experiment")
    rates = limit.dropna(subset="rate").pivot_table("rate", "part", "experiment") / 1e9
    parts = parts.rename(index={"iteration": "sum"})
    parts.loc["measured"] = extra["milliseconds"]
    parts.loc["fraction of the limit"] = extra["fraction_of_limit"]
    parts.loc["GFLOP/s of a large product"] = rates.loc["matrix rate"]
    parts.loc["GB/s"] = rates.loc["bandwidth"]
    return parts


def _markdown(frame: pd.DataFrame, digits: int = 2) -> str:
    text = frame.astype(object).map(lambda value: "–" if pd.isna(value) else f"{value:.{digits}f}").reset_index()
    return text.to_markdown(index=False, disable_numparse=True)


if __name__ == "__main__":
    main()
