"""Networks with state: recurrent layers and cells unrolled in time."""

from __future__ import annotations

from ..blocks import cbr
from ..inputs import floats, tokens
from ..lazy import F, Tensor, nn, torch
from ..net_type import Net
from ..registry import network


@network("lstm", x=floats(2, "sequence", 14))
def lstm(net: Net, x: Tensor) -> Tensor:
    """One layer over a dynamic number of steps, the last step classified."""
    y, _ = net.make(nn.LSTM, 14, 26, batch_first=True)(net.linear(x, 14).relu())
    return net.linear(y[:, -1], 7)


@network("lstm_stacked_bidirectional", ids=tokens(2, 9, vocabulary=50))
def lstm_stacked_bidirectional(net: Net, ids: Tensor) -> Tensor:
    """Three layers in both directions: the second reads the concatenated directions of the first."""
    y, _ = net.make(nn.LSTM, 18, 14, num_layers=3, bidirectional=True, batch_first=True)(net.embed(ids, 50, 18))
    return net.linear(net.linear(y, 20).relu(), 5)


@network("gru", x=floats(9, 2, 14))
def gru(net: Net, x: Tensor) -> Tensor:
    """Time first, two layers, the final state classified."""
    _, h = net.make(nn.GRU, 14, 22, num_layers=2)(x)
    return net.linear(h[-1], 7)


@network("gru_bidirectional_sum", x=floats(9, 2, 14))
def gru_bidirectional_sum(net: Net, x: Tensor) -> Tensor:
    """Both directions are added, not concatenated, with batch normalization between layers (Deep Speech 2)."""
    x = net.linear(x, 20)
    for width in (22, 18):
        y, _ = net.make(nn.GRU, int(x.shape[2]), width, bidirectional=True)(x)
        x = y.reshape(9, 2, 2, width).sum(2)
        x = net.bn(x.reshape(18, width)).reshape(9, 2, width)
    return net.linear(x, 7)


@network("rnn", x=floats(2, 9, 14))
def rnn(net: Net, x: Tensor) -> Tensor:
    """Plain recurrent layers, one with tanh and one with ReLU, mean over time."""
    y, _ = net.make(nn.RNN, 14, 24, batch_first=True)(x)
    y, _ = net.make(nn.RNN, 24, 18, batch_first=True, nonlinearity="relu")(y * 0.3)
    return net.linear(y.mean(1), 7)


@network("lstm_states", x=floats(1, 1, 14), h=floats(1, 1, 26), c=floats(1, 1, 26))
def lstm_states(net: Net, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One streaming step: states come in and go out, so their width is fixed, unlike the layers around."""
    y, (h, c) = net.make(nn.LSTM, 20, 26, batch_first=True)(net.linear(x, 20).relu(), (h, c))
    return net.linear(net.linear(y, 22).relu(), 7), h, c


@network("gru_computed_state", x=floats(2, 9, 14), context=floats(2, 10))
def gru_computed_state(net: Net, x: Tensor, context: Tensor) -> Tensor:
    """The first state is computed from a second input."""
    start = net.linear(net.linear(context, 18).relu(), 24).tanh().unsqueeze(0)
    y, _ = net.make(nn.GRU, 14, 24, batch_first=True)(x, start)
    return net.linear(y, 7)


@network("crnn", x=floats(1, 1, 16, 40))
def crnn(net: Net, x: Tensor) -> Tensor:
    """Convolutions, columns as time, a bidirectional LSTM, one class distribution per step."""
    x = F.max_pool2d(cbr(net, x, 12), 2)
    x = F.max_pool2d(cbr(net, x, 20), (4, 2))
    x = x.flatten(1, 2).permute(2, 0, 1)
    y, _ = net.make(nn.LSTM, 40, 18, bidirectional=True)(net.linear(x, 40))
    return net.linear(y, 11).log_softmax(-1)


@network("conv_lstm", x=floats(1, 3, 2, 12, 12))
def conv_lstm(net: Net, x: Tensor) -> Tensor:
    """A convolutional cell, unrolled over three frames; gates by chunk of one convolution."""
    h, c = torch.zeros(1, 14, 12, 12), torch.zeros(1, 14, 12, 12)
    for t in range(3):
        with net.shared("cell"):
            i, f, o, g = net.conv(torch.cat([x[:, t], h], 1), 4 * 14).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    return net.conv(net.conv(h, 10).relu(), 3, 1)


@network("lstm_cell_unrolled", x=floats(2, 4, 14))
def lstm_cell_unrolled(net: Net, x: Tensor) -> Tensor:
    """torch's LSTMCell in a loop: the same two Gemm weights many times."""
    h, c = torch.zeros(2, 22), torch.zeros(2, 22)
    for t in range(4):
        with net.shared("cell"):
            h, c = net.make(nn.LSTMCell, 14, 22)(x[:, t], (h, c))
    return net.linear(net.linear(h, 16).relu(), 7)


@network("gru_cell_unrolled", x=floats(2, 4, 14))
def gru_cell_unrolled(net: Net, x: Tensor) -> Tensor:
    """torch's GRUCell in a loop, every state kept and stacked."""
    h, states = torch.zeros(2, 22), []
    for t in range(4):
        with net.shared("cell"):
            h = net.make(nn.GRUCell, 14, 22)(x[:, t], h)
        states.append(h)
    return net.linear(torch.stack(states, 1).amax(1), 7)


@network("seq2seq", ids=tokens(2, 7, vocabulary=40), target=tokens(2, 3, vocabulary=40))
def seq2seq(net: Net, ids: Tensor, target: Tensor) -> Tensor:
    """A recurrent encoder, and a decoder that attends additively (Bahdanau) before every step."""
    memory, h = net.make(nn.GRU, 16, 22, batch_first=True)(net.embed(ids, 40, 16))
    keys, h, logits = net.linear(memory, 18), h[0], []
    words = net.embed(target, 40, 14)
    for t in range(3):
        with net.shared("step"):
            scores = net.linear((keys + net.linear(h, 18).unsqueeze(1)).tanh(), 1, bias=False)
            context = (scores.softmax(1) * memory).sum(1)
            h = net.make(nn.GRUCell, 36, 22)(torch.cat([words[:, t], context], 1), h)
            logits.append(net.linear(torch.cat([h, context], 1), 40))
    return torch.stack(logits, 1)


@network("lstm_attention_pool", x=floats(2, 9, 14))
def lstm_attention_pool(net: Net, x: Tensor) -> Tensor:
    """A softmax over time pools the states of a bidirectional LSTM."""
    y, _ = net.make(nn.LSTM, 14, 18, bidirectional=True, batch_first=True)(x)
    weights = net.linear(net.linear(y, 12).tanh(), 1, bias=False).softmax(1)
    return net.linear((weights * y).sum(1), 7)


@network("lstm_residual", x=floats(2, 9, 14))
def lstm_residual(net: Net, x: Tensor) -> Tensor:
    """Recurrent layers inside a residual stream, each normalized."""
    x = net.linear(x, 24)
    for _ in range(2):
        y, _ = net.make(nn.LSTM, 24, 24, batch_first=True)(net.layer_norm(x))
        x = x + y
    return net.linear(net.linear(x, 18).relu(), 7)


@network("quasi_recurrent", x=floats(2, 5, 14))
def quasi_recurrent(net: Net, x: Tensor) -> Tensor:
    """Gates from causal convolutions; only element-wise work in time (QRNN)."""
    x = x.transpose(1, 2)
    for width in (22, 18):
        gates = net.conv(F.pad(x, (1, 0)), 3 * width, 2, padding=0)
        z, f, o = gates.chunk(3, 1)
        z, f, o = z.tanh(), f.sigmoid(), o.sigmoid()
        c, outs = torch.zeros(2, width), []
        for t in range(5):
            c = f[:, :, t] * c + (1 - f[:, :, t]) * z[:, :, t]
            outs.append(o[:, :, t] * c)
        x = torch.stack(outs, 2)
    return net.linear(x[:, :, -1], 7)


@network("speech_recognizer", x=floats(1, 1, 24, 12))
def speech_recognizer(net: Net, x: Tensor) -> Tensor:
    """Strided convolutions with hard tanh, flattened per frame, one GRU, lookahead by a depthwise convolution."""
    x = F.hardtanh(net.bn(net.conv(x, 10, (5, 3), (2, 1))), 0, 20)
    x = F.hardtanh(net.bn(net.conv(x, 14, 3, (1, 2))), 0, 20)
    x = net.linear(x.permute(2, 0, 1, 3).flatten(2), 24)
    y, _ = net.make(nn.GRU, 24, 20)(x)
    y = net.conv(F.pad(y.permute(1, 2, 0), (0, 3)), 20, 4, padding=0, groups=20, bias=False)
    return net.linear(F.hardtanh(y, 0, 20).transpose(1, 2), 9)
