"""Prints a summary of tank readings: report.py READINGS.csv

It counts what is unusable instead of hiding it: missing readings, values that are not numbers, and
values that no tank can have.
"""

import sys

import pandas as pd

INTERVAL = pd.Timedelta(minutes=10)
PLAUSIBLE = {"level_m": (0, 12), "temperature_c": (-30, 120), "inflow_m3h": (0, 500)}


def load(path):
    """Returns the readings, with NaN for unusable values, and the number of bad values of each tank."""
    # Read all columns as text: pandas would do so silently for any column with one "ERR" in it.
    raw = pd.read_csv(path, dtype=str, keep_default_na=False)
    data = pd.DataFrame({"time": pd.to_datetime(raw["time"], utc=True), "tank": raw["tank"]})
    bad = pd.Series(0, index=raw.index)
    for column, (low, high) in PLAUSIBLE.items():
        value = pd.to_numeric(raw[column], errors="coerce")
        value = value.where(value.between(low, high))
        bad += value.isna() & (raw[column] != "")
        data[column] = value
    return data, bad.groupby(raw["tank"]).sum()


def summary(path):
    """Returns one row for each tank."""
    data, bad = load(path)
    readings = round((data["time"].max() - data["time"].min()) / INTERVAL) + 1  # that each tank should have
    rows = []
    for tank, group in data.sort_values("time").groupby("tank"):
        level = group.dropna(subset=["level_m"])
        hours = (level["time"].iloc[-1] - level["time"].iloc[0]).total_seconds() / 3600
        rows.append({
            "tank": tank,
            "readings": len(group),
            "missing": readings - len(group),
            "empty": int(group[list(PLAUSIBLE)].isna().sum().sum() - bad[tank]),
            "bad": int(bad[tank]),
            "level_min": level["level_m"].min(),
            "level_max": level["level_m"].max(),
            "level_last": level["level_m"].iloc[-1],
            "rise_m_per_h": (level["level_m"].iloc[-1] - level["level_m"].iloc[0]) / hours if hours else 0.0,
            "temp_mean": group["temperature_c"].mean(),
        })
    return pd.DataFrame(rows).round(3)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: report.py READINGS.csv")
    table = summary(sys.argv[1])
    print(table.to_string(index=False))
    print(f"\n{table['missing'].sum()} readings missing, {table['bad'].sum()} values unusable")
