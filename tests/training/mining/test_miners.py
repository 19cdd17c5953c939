"""The four miners against a float64 loop over queries that follows the published description."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import default_rng

from vgbench.data import Neighbours, TableBuilder
from vgbench.errors import UserError
from vgbench.randomness import numpy_stream
from vgbench.training.mining import MINERS, Task, build_miner
from vgbench.training.mining.msls_weighted import query_weights
from vgbench.training.mining.sampling import sample_distinct
from vgbench.training.options import TrainOptions

NEAR, FAR = 10.0, 25.0
MODES = ["partial", "full", "random", "msls_weighted"]
NOTES = ("day_forward", "night_forward", "day_sideways", "night_sideways", "")


class World:
    """Images along a street of some length, some queries far off it, with descriptors that know nothing of place."""

    def __init__(self, queries=40, database=120, length=600.0, seed=0):
        rng = default_rng(seed)
        self.queries_utm = np.stack([rng.uniform(0, length, queries), np.zeros(queries)], 1)
        self.queries_utm[::7, 1] = 15.0  # soft positives only
        self.queries_utm[3, 1] = 9000.0  # nothing near at all
        self.database_utm = np.stack([rng.uniform(0, length, database), np.zeros(database)], 1)
        tables = []
        for name, utm in (("database", self.database_utm), ("queries", self.queries_utm)):
            builder = TableBuilder()
            for row, (east, north) in enumerate(utm):
                builder.add(f"{row}.jpg", east, north, note=NOTES[row % len(NOTES)])
            tables.append(builder.build(Path(name)))
        self.database, self.queries = tables
        self.task = Task(
            self.database,
            self.queries,
            Neighbours.brute(self.queries_utm, self.database_utm, NEAR),
            Neighbours.brute(self.queries_utm, self.database_utm, FAR),
        )
        self.descriptors = {}
        for table in tables:
            values = rng.standard_normal((len(table), 8))
            self.descriptors[table.root.name] = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype("f4")
        self.described = {"database": 0, "queries": 0}

    def describe(self, table, rows):
        name = table.root.name
        self.described[name] += len(rows)
        for start in range(0, len(rows), 5):
            part = rows[start : start + 5]
            yield torch.from_numpy(part), torch.from_numpy(self.descriptors[name][part])

    def distances(self, query):
        return np.linalg.norm(self.descriptors["database"].astype(float) - self.descriptors["queries"][query], axis=1)

    def metres(self, query):
        return np.linalg.norm(self.database_utm - self.queries_utm[query], axis=1)


def naive_round(world, options, seed, epoch, index, cache):
    """Return {query: (positive, negatives without repeats)} as the published miners find them, a query at a time."""
    rng = numpy_stream(seed, "mining", epoch, index)
    size = len(world.database)
    eligible = np.array([q for q in range(len(world.queries)) if (world.metres(q) <= NEAR).any()])
    weights = None
    if options.mining == "msls_weighted":
        weights = np.ones(len(eligible))
        for word in ("night", "sideways"):
            member = [i for i, q in enumerate(eligible) if word in world.queries.note(int(q))]
            weights[member] += len(eligible) / len(member)
        weights /= weights.sum()
    total = min(options.queries_in_round(index), len(eligible))
    queries = rng.choice(eligible, size=total, replace=False, p=weights)
    wanted, samples = options.negs_num_per_query, min(options.neg_samples_num, size)
    if options.mining == "full":
        own = sample_distinct(rng, total, samples, size)
    elif options.mining == "random":
        spare = max(int((world.metres(q) <= FAR).sum()) for q in queries)
        own = sample_distinct(rng, total, wanted + spare, size)
    else:
        own = np.tile(rng.choice(size, size=samples, replace=False), (total, 1))
    result = {}
    for place, query in enumerate(queries.tolist()):
        distance, metres = world.distances(query), world.metres(query)
        hard_positives = np.flatnonzero(metres <= NEAR)
        positive = hard_positives[distance[hard_positives].argmin()]
        far = [row for row in own[place].tolist() if metres[row] > FAR]
        if options.mining == "random":
            far = far[:wanted]
        else:
            if options.mining == "full":
                far = sorted({*far, *cache.get(query, [])})
            far = sorted(far, key=lambda row: distance[row])[:wanted]
            cache[query] = far
        result[query] = (int(positive), far)
    return result


@pytest.mark.parametrize("mining", MODES)
@pytest.mark.parametrize(
    ("count", "samples", "refresh"),
    [(3, 30, 12), (10, 12, 12), (5, 1000, 1000), (4, 8, 7)],
    ids=["usual", "fewer than wanted", "larger than the data", "few samples"],
)
def test_equals_a_loop_over_queries(mining, count, samples, refresh):
    world = World()
    options = TrainOptions(
        mining=mining,
        negs_num_per_query=count,
        neg_samples_num=samples,
        cache_refresh_rate=refresh,
        queries_per_epoch=3 * refresh - 2,
    )
    miner, cache = build_miner(options, world.task, seed=5), {}
    rounds_with_repeats = 0
    for epoch in range(2):
        for index in range(options.rounds_per_epoch):
            expected = naive_round(world, options, 5, epoch, index, cache)
            mined = miner.round(world.describe, epoch, index, options.queries_in_round(index))
            usable = {query: value for query, value in expected.items() if value[1]}
            got = mined.triplets
            assert got.query.tolist() == list(usable)
            assert got.positive.tolist() == [positive for positive, _ in usable.values()]
            for row, (_, far) in zip(got.negatives, usable.values(), strict=True):
                assert row.tolist() == [far[i % len(far)] for i in range(count)]
            assert mined.left_out == len(expected) - len(usable)
            assert mined.repeated == sum(len(far) < count for _, far in usable.values())
            rounds_with_repeats += mined.repeated > 0
    if (count, samples) == (10, 12) and mining != "full":
        assert rounds_with_repeats or mining == "random"


@pytest.mark.parametrize("mining", MODES)
def test_positives_are_near_negatives_far_and_lonely_queries_never_drawn(mining):
    world = World(seed=3)
    options = TrainOptions(mining=mining, negs_num_per_query=4, neg_samples_num=40, cache_refresh_rate=25)
    assert world.task.set_aside >= 6 and 3 not in world.task.eligible and 0 not in world.task.eligible
    triplets = build_miner(options, world.task, 0).round(world.describe, 0, 0, 25).triplets
    assert len(set(triplets.query.tolist())) == len(triplets) == 25
    for query, positive, negatives in zip(triplets.query, triplets.positive, triplets.negatives, strict=True):
        metres = world.metres(query)
        assert metres[positive] <= NEAR and (metres[negatives] > FAR).all()
        assert len(set(negatives.tolist())) == 4


def test_a_round_is_its_own_and_repeatable():
    world = World()
    options = TrainOptions(negs_num_per_query=3, neg_samples_num=20)

    def mine(seed, epoch, index):
        got = build_miner(options, world.task, seed).round(world.describe, epoch, index, 10).triplets
        return got.query.tolist(), got.negatives.tolist()

    assert mine(0, 1, 2) == mine(0, 1, 2)
    assert len({str(mine(*key)) for key in ((0, 1, 2), (0, 2, 1), (0, 1, 3), (1, 1, 2))}) == 4


def test_random_mining_describes_no_negative():
    world = World()
    options = TrainOptions(mining="random", negs_num_per_query=3)
    triplets = build_miner(options, world.task, 0).round(world.describe, 0, 0, 5).triplets
    near = np.unique(np.concatenate([world.task.positives.of(int(q)) for q in triplets.query]))
    assert world.described == {"database": len(near), "queries": 5}


def test_partial_mining_describes_the_sample_and_the_positives_only():
    world = World(database=2000, length=20000)
    options = TrainOptions(negs_num_per_query=3, neg_samples_num=50)
    build_miner(options, world.task, 0).round(world.describe, 0, 0, 5)
    assert world.described["database"] <= 50 + int(np.sort(world.task.positives.counts)[-5:].sum())


def test_full_mining_remembers_across_a_save_and_only_its_own_shape():
    world = World()
    options = TrainOptions(mining="full", negs_num_per_query=3, neg_samples_num=6, cache_refresh_rate=40)
    whole = build_miner(options, world.task, 0)
    first = whole.round(world.describe, 0, 0, 40)
    state = whole.state_dict()
    second = whole.round(world.describe, 0, 1, 40).triplets
    resumed, fresh = build_miner(options, world.task, 0), build_miner(options, world.task, 0)
    resumed.load_state_dict(state)
    again = resumed.round(world.describe, 0, 1, 40).triplets
    assert again.query.tolist() == second.query.tolist() and again.negatives.tolist() == second.negatives.tolist()
    assert fresh.round(world.describe, 0, 1, 40).triplets.negatives.tolist() != second.negatives.tolist()
    kept = dict(zip(first.triplets.query.tolist(), first.triplets.negatives, strict=True))
    for query, negatives in zip(second.query.tolist(), second.negatives, strict=True):
        # With the old ones among the candidates, the hardest can only get harder.
        assert world.distances(query)[negatives].max() <= world.distances(query)[kept[query]].max()
    other = build_miner(TrainOptions(mining="full", negs_num_per_query=4), world.task, 0)
    with pytest.raises(UserError, match="negs_num_per_query"):
        other.load_state_dict(state)
    with pytest.raises(UserError, match="mining"):
        build_miner(TrainOptions(), world.task, 0).load_state_dict(state)


def test_msls_weights_are_those_of_the_paper():
    world = World()
    weights = query_weights(world.task)
    notes = [world.queries.note(int(q)) for q in world.task.eligible]
    total = len(notes)
    night = sum(note.startswith("night") for note in notes)
    sideways = sum(note.endswith("sideways") for note in notes)
    plain = {
        note: 1 + (total / night if "night" in note else 0) + (total / sideways if "sideways" in note else 0)
        for note in NOTES
    }
    expected = np.array([plain[note] for note in notes])
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-12)


@pytest.mark.parametrize(("dropped", "word"), [("night", "night"), ("sideways", "sideways")])
def test_msls_weights_without_such_notes_are_refused(dropped, word):
    world = World()
    vocabulary = tuple(note.replace(dropped, "x") for note in world.queries.note_vocabulary)
    world.queries.note_vocabulary = vocabulary
    with pytest.raises(UserError, match=rf"queries: no query's note says {word}.*--mining partial"):
        build_miner(TrainOptions(mining="msls_weighted"), world.task, 0)


def test_a_set_without_any_positive_is_refused():
    world = World()
    nothing = Neighbours.brute(world.queries_utm, world.database_utm + 1e6, NEAR)
    with pytest.raises(UserError, match="train_positives_dist_threshold"):
        Task(world.database, world.queries, nothing, nothing)


@pytest.mark.parametrize("mining", MODES)
def test_a_set_without_any_negative_is_refused(mining):
    world = World(length=5.0)
    few = "lower --val_positive_dist_threshold" if mining == "random" else "raise --neg_samples_num"
    for samples, remedy in ((10, few), (len(world.task.database), "lower --val_positive_dist_threshold")):
        miner = build_miner(TrainOptions(mining=mining, neg_samples_num=samples), world.task, 0)
        with pytest.raises(UserError, match=f"no sampled query has a negative.*; {remedy}$"):
            miner.round(world.describe, 0, 0, 5)


def test_every_miner_of_the_table_is_tested():
    assert set(MINERS) == set(MODES)
