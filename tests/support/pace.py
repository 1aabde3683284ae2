"""How quickly a rollout can be over at best, whoever runs it: what each device keeps a slot for, by its own doing, over the
slots. Transfers at the measured rate, flashing, rebooting; for those that fail, what it takes to find that out."""

import re
import statistics

FLASH_S, REBOOT_S = 2, 3  # of updraft-sim, before --time-scale
CUTS = 3  # transfers that break off, until a device has failed


def transfer_s(log):
    """What a whole transfer took, in the middle, as the server logged it."""
    return statistics.median(int(ms) for ms in re.findall(r"event=update_sent .* ms=(\d+)", log)) / 1000


class Pace:
    """Times in seconds: what `misbehaviour` of updraft-sim takes of a slot at least. `retry`, `reboot_deadline`,
    `timeout`: of the order and of the devices, as they are, not to be scaled."""

    def __init__(self, transfer, time_scale, stall, retry, timeout, reboot_deadline):
        back = transfer + (FLASH_S + REBOOT_S) * time_scale
        self.well = back
        self.ill = {"silent": timeout, "never-reboot": transfer + reboot_deadline, "drop": CUTS * transfer / 2,
                    "stall": CUTS * (transfer / 2 + stall), "bad-md5": transfer + retry, "old-image": back}

    def slot(self, misbehaviour):
        return self.ill.get(misbehaviour, self.well)

    def best(self, misbehaviours, window):
        """With all slots taken until the end, by someone who knew beforehand whom to begin with."""
        slots = [self.slot(each) for each in misbehaviours]
        return max(sum(slots) / window, max(slots))
