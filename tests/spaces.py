"""A space for tests of maths and searchers that do not depend on what is shipped: 9 choices a layer, 10^12 subnets."""

from search_spaces import space_from_dict

COARSE = space_from_dict(
    {
        "name": "coarse",
        "embed_dims": [128, 160, 192],
        "heads": [2, 4, 6],
        "ffn_ratios": [1.5, 2.5, 3.5],
        "depth_map": {
            "10": [1, 2, 3, 4, 5, 6, 7, 9, 10, 11],
            "11": list(range(1, 12)),
            "12": list(range(1, 13)),
        },
        "network": {
            "conv_layers": [[96, 10, 5], *[[96, 3, 2]] * 4, *[[96, 2, 2]] * 2],
            "width": 192,
            "heads": 6,
            "ffn_dim": 672,
            "head_dim": 32,
        },
    }
)
