from __future__ import annotations

import numpy as np
import pandas as pd

from gtex_vae.analysis.report.map_columns import map_columns


def test_columns_of_the_map():
    obs = pd.DataFrame(
        {
            "sex": ["F", "M", None],
            "age": ["20-29", "60-69", "20-29"],
            "hardy": [0.0, 2.0, np.nan],
            "release": ["v8"] * 3,
        }
    )
    columns = {column["name"]: column for column in map_columns(obs)}
    assert set(columns) == {"sex", "age", "hardy"}
    assert columns["sex"]["levels"] == ["F", "M", "missing"]
    assert columns["age"]["levels"] == ["20-29", "60-69"]
    assert columns["hardy"]["levels"] == ["0", "2", "missing"]
