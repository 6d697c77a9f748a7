"""The site's side: one filter for task data and for results, which keeps updates and answers the masked protocol."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from nvflare.apis.filter import ContentBlockedException, Filter, FilterChainType, FilterContextKey
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply

from secagg.errors import SecaggError, UsageError
from secagg.federated.identities import SERVER
from secagg.federated.keeper import Keeper
from secagg.federated.node import OwnNode
from secagg.federated.settings import protection_from
from secagg.federated.terms import TRAIN, Protection
from secagg.integrations.nvflare import messages

_KEEPER: Final = "secagg.keeper"
_log: Final = logging.getLogger("secagg.nvflare")


class SecureFilter(Filter):
    """A filter for both the task data and the task results of a site: updates leave it under masks only.

    It stands first among data filters and last among result filters, for all tasks: a result that answers no protected
    task is blocked. What goes wrong is told to the server without saying anything of the update, and in full to the
    site's log.

    Args:
      identity: path of the site's identity key; "{site}" in it becomes the site's name, for simulations.
      peers: path of the file of public keys of all sites.
      protection: what this site insists on, `Protection` or its fields.

    Raises:
      UsageError: settings that are none.
    """

    def __init__(
        self, identity: str, peers: str, protection: Mapping[str, Any] | Protection | None = None
    ) -> None:
        super().__init__()
        self.identity, self.peers, self.protection = identity, peers, protection
        self._insists = protection_from(protection)

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Check a task before the executor sees it, or put what the server is told in the place of its result.

        Raises:
          ContentBlockedException: a task or a result that is refused.
        """
        chain = self.get_prop(FilterContextKey.CHAIN_TYPE)
        try:
            if chain == FilterChainType.TASK_DATA_CHAIN:
                return self._invite(shareable, fl_ctx)
            if chain == FilterChainType.TASK_RESULT_CHAIN:
                return self._keep(shareable, fl_ctx)
            raise UsageError("expected this filter among task_data_filters and task_result_filters")
        except SecaggError as error:
            _log.error("protected sum: %s", error)
            raise ContentBlockedException(error.for_peers()) from None

    def _invite(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        keeper = self._keeper(fl_ctx)
        frame = messages.header_of(shareable)
        if frame is None:
            raise UsageError(
                f"{SERVER} asks for something without protection, which this site does not answer"
            )
        dxo = messages.model_in(shareable)
        digest = b""
        if self._insists.is_malicious:
            shareable, digest = messages.as_asked(shareable, dxo)
        else:
            shareable.set_header(messages.HEADER, None)
        run = messages.run_number(fl_ctx.get_job_id())
        keeper.invite(run, TRAIN, frame, dxo.data, task_digest=digest)
        return shareable

    def _keep(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        code = shareable.get_return_code()
        if code != ReturnCode.OK:
            return make_reply(code)  # and nothing else that may be in it
        keeper = fl_ctx.get_prop(_KEEPER)
        if not isinstance(keeper, Keeper):
            raise UsageError(
                "expected this filter among the task_data_filters too, where it sees what is asked; nothing leaves this site"
            )
        dxo = messages.model_in(shareable)
        # Averages of updates within a norm are of the same weight.
        weight = 1 if self._insists.sums_differences(TRAIN) else messages.weight_of(dxo)
        ready = keeper.keep(dxo.data, weight, record=messages.record_of(dxo))
        reply = Shareable()
        reply.set_header(messages.HEADER, ready)
        return reply

    def _keeper(self, fl_ctx: FLContext) -> Keeper:
        """Return what keeps this site's updates in this run, made for the first task."""
        keeper = fl_ctx.get_prop(_KEEPER)
        if isinstance(keeper, Keeper):
            return keeper
        site = fl_ctx.get_identity_name()
        identity, peers = (path.replace("{site}", site) for path in (self.identity, self.peers))
        made = Keeper(OwnNode.load(identity, peers), self._insists, log=_log)
        fl_ctx.set_prop(_KEEPER, made, private=True, sticky=True)

        def answer(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:  # noqa: ARG001  # called by name
            try:
                step, frame = messages.unpack(request, peer=SERVER)
                return messages.pack(step, made.answer(step, frame))
            except SecaggError as error:
                _log.error("protected sum: %s", error)
                return messages.refusal(error.for_peers())

        fl_ctx.get_engine().register_aux_message_handler(messages.TOPIC, answer)
        return made
