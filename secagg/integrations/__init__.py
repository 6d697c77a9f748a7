"""Other software's types turned into secagg's and back; each module needs that software installed."""
