"""SIGHUP: configuration and prices again; what is bad is refused, and what was goes on."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from prometheus import SidecarProcess, sidecar_process, wait_until


def line(kind: str, tokens: int) -> str:
    return json.dumps({"kind": kind, "m": "gpt-4o", "in": tokens}) + "\n"


def table(kind: str) -> str:
    return f'[parsers.{kind}]\nwhen = {{ kind = "{kind}" }}\nmodel = "m"\ninput_tokens = "in"\n'


def tokens(sidecar: SidecarProcess) -> float:
    return sum(
        float(text.rsplit(" ", 1)[1])
        for text in sidecar.page().splitlines()
        if text.startswith("ai_api_input_tokens_total{")
    )


def hang_up(sidecar: SidecarProcess, answer: str) -> None:
    seen = len(sidecar.lines)
    sidecar.popen.send_signal(signal.SIGHUP)
    wait_until(lambda: any(answer in text for text in sidecar.lines[seen:]), answer)


def test_a_new_configuration_is_taken_over_and_a_bad_one_refused(tmp_path: Path) -> None:
    config, first, second = tmp_path / "c.toml", tmp_path / "1.log", tmp_path / "2.log"
    config.write_text(f'log_path = ["{first}"]\nparser = ["a"]\n' + table("a"))
    first.write_text(line("a", 1) + line("b", 10))
    second.write_text(line("b", 100))
    with SidecarProcess(["--config", str(config)]) as sidecar:
        wait_until(lambda: tokens(sidecar) == 1, "what table a reads")

        config.write_text("log_path = [")
        hang_up(sidecar, "the configuration stays as it was")
        config.write_text(f'log_path = ["{first}"]\n[parsers.a]\nmodell = "m"\n')
        hang_up(sidecar, "the configuration stays as it was")
        with first.open("a") as file:
            file.write(line("a", 2))
        wait_until(lambda: tokens(sidecar) == 3, "the old table at work")

        config.write_text(
            f'log_path = ["{first}", "{second}"]\nparser = ["b"]\nmax_series = 7\n' + table("b")
        )
        hang_up(sidecar, "configuration read again")
        assert any("only a restart brings another max-series" in text for text in sidecar.lines)
        with first.open("a") as file:
            file.write(line("b", 1000) + line("a", 5))
        wait_until(lambda: tokens(sidecar) == 1103, "both files by table b")
        assert sidecar.stop() == 0


def test_another_cost_source_and_inline_prices_hold_from_then_on(tmp_path: Path) -> None:
    config, log = tmp_path / "c.toml", tmp_path / "1.log"
    price = '[prices.models."m"]\ninput = {}\noutput = 1\n'
    call = '{"provider":"acme","model":"m","status":200,"usage":{"prompt_tokens":1000000,"completion_tokens":0}}\n'
    config.write_text(price.format(1))
    log.write_text(call)

    def cents(sidecar: SidecarProcess) -> float:
        return sum(
            float(text.rsplit(" ", 1)[1])
            for text in sidecar.page().splitlines()
            if text.startswith("ai_api_cost_usd_cents_total{")
        )

    with sidecar_process(log, "--config", str(config)) as sidecar:
        wait_until(lambda: cents(sidecar) == 100, "one dollar")
        config.write_text(price.format(2))
        hang_up(sidecar, "configuration read again")
        with log.open("a") as file:
            file.write(call)
        wait_until(lambda: cents(sidecar) == 300, "three dollars")
