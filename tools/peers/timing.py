"""Timing of GPU work with CUDA graphs, so that no Python is measured."""

import statistics

import torch

L2_BYTES = 50 << 20
REPETITIONS = 31


def median(values):
    return statistics.median(values)


def captured(work):
    """A CUDA graph of work(), which has run before on a stream of its own."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


def elapsed_us(work):
    begin = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    begin.record()
    work()
    end.record()
    end.synchronize()
    return 1000 * begin.elapsed_time(end)


def node_us(launch, copies, least_nodes=96):
    """Median time of launch(i), a node of a graph: node i reads copy i % copies. So many nodes that
    starting the graph costs little; 40 ms of warming up, as `ultraspeed bench kernels` does."""
    nodes = (least_nodes + copies - 1) // copies * copies

    def all_nodes():
        for i in range(nodes):
            launch(i % copies)

    graph = captured(all_nodes)
    warm_us = 0.0
    while warm_us < 40_000:
        warm_us += elapsed_us(graph.replay)
    return median([elapsed_us(graph.replay) / nodes for _ in range(REPETITIONS)])


def copies_of(size_bytes):
    """As many that six L2 caches are read before one comes again; two at least."""
    return max(2, -(-6 * L2_BYTES // size_bytes))
