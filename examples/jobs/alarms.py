"""The code of a request: which readings of a tank are above a level?

Input: the variables `readings` (a path), `tank` and `above_m`. Output: the variable `result`.
"""

import pandas as pd

data = pd.read_csv(readings, parse_dates=["time"])
data["level_m"] = pd.to_numeric(data["level_m"], errors="coerce")
high = data[(data["tank"] == tank) & (data["level_m"] > above_m)]

result = {
    "tank": tank,
    "above_m": above_m,
    "count": len(high),
    "first": None if high.empty else high["time"].min(),
    "readings": high[["time", "level_m"]].tail(3),  # a table becomes a list of records
}
