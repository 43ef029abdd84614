"""Log one JSON line for each attempt of `litellm`, SDK or proxy; no message, answer or key is in it."""

import json
from pathlib import Path

from litellm.integrations.custom_logger import CustomLogger

LOG = Path("/var/log/app/litellm.jsonl")
KEPT = (
    "id litellm_call_id trace_id call_type status stream cache_hit custom_llm_provider model "
    "startTime endTime completionStartTime prompt_tokens completion_tokens response_cost "
    "metadata request_tags end_user hidden_params"
)


class LineLogger(CustomLogger):
    def log_success_event(self, kwargs, response_obj, start_time, end_time):
        payload = kwargs["standard_logging_object"]
        line = {name: payload.get(name) for name in KEPT.split()}
        answer, error = payload.get("response") or {}, payload.get("error_information") or {}
        line["response"] = {name: answer.get(name) for name in ("model", "status")}
        if choices := answer.get("choices"):
            line["response"]["choices"] = [{"finish_reason": choices[0].get("finish_reason")}]
        line["error_information"] = {k: error.get(k) for k in ("error_code", "error_class")}
        with LOG.open("a") as log:
            log.write(json.dumps(line, default=str) + "\n")

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        self.log_success_event(kwargs, response_obj, start_time, end_time)

    log_failure_event = log_success_event
    async_log_failure_event = async_log_success_event


# SDK: litellm.callbacks = [line_logger]; proxy: `litellm_settings: {callbacks: litellm_hook.line_logger}`
line_logger = LineLogger()
