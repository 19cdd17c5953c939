"""The table of aggregations over frames: name -> a class `(frame_dim, seq_length, own options)`.

Each is a module from the descriptors of frames, float32 [B,L,F], to those of sequences [B,D], with `descriptors_dim`;
see `vgbench.models.sequences.base`.
"""

from vgbench.registry import Registry

SEQ_AGGREGATIONS = Registry(
    "aggregation over frames",
    {
        "concat": "vgbench.models.sequences.concat:Concat",
        "mean": "vgbench.models.sequences.mean:Mean",
        "seqgem": "vgbench.models.sequences.seqgem:SeqGeM",
        "seqvlad": "vgbench.models.sequences.seqvlad:SeqVLAD",
        "seqnet": "vgbench.models.sequences.seqnet:SeqNet",
    },
    positional=2,
)
