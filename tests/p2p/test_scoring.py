from openledger.p2p.scoring import BAN_AT, BAN_S, PeerScores, Penalty


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_one_invalid_answer_bans_for_a_while() -> None:
    clock, banned = Clock(), list[str]()
    scores = PeerScores(banned.append, clock)
    scores.penalise("a", Penalty.INVALID, "forged header")
    assert banned == ["a"]
    assert scores.is_banned("a")
    assert not scores.is_banned("b")
    clock.now += BAN_S + 1
    assert not scores.is_banned("a")


def test_small_faults_add_up_only_when_they_come_quickly() -> None:
    clock, banned = Clock(), list[str]()
    scores = PeerScores(banned.append, clock)
    for _ in range(100):
        scores.penalise("slow", Penalty.UNRESPONSIVE, "timeout")
        clock.now += 60
    assert banned == []
    for _ in range(21):
        scores.penalise("slow", Penalty.UNRESPONSIVE, "timeout")
    assert banned == ["slow"]


def test_penalty_fades_by_half_a_minute() -> None:
    clock = Clock()
    scores = PeerScores(clock=clock)
    scores.penalise("a", Penalty.MALFORMED, "bad request")
    clock.now += 60
    assert scores.penalty("a") == Penalty.MALFORMED / 2
    assert scores.penalty("unknown") == 0
    assert Penalty.MALFORMED < BAN_AT


def test_banned_peer_is_reported_once() -> None:
    clock, banned = Clock(), list[str]()
    scores = PeerScores(banned.append, clock)
    for _ in range(3):
        scores.penalise("a", Penalty.INVALID, "again")
    assert banned == ["a"]
