/* SPDX-License-Identifier: Apache-2.0 */
/* What the configuration says of its keys about alerts (alert_rules.h): the shape of each one's value, and its help. For config.c's table. */
#pragma once

#define NC_ALERT_FOR "[for SECONDS] [clear THRESHOLD] [after SECONDS]"
#define NC_ALERT_SHAPE_SLOW_TRANSFER "off, or MB/s " NC_ALERT_FOR
#define NC_ALERT_HELP_SLOW_TRANSFER                                                                                               \
  "NovacronSlowTransfer: memory, or before it the disks, are copied more slowly than that, and with less than 80 % of the migration's rate limit or, " \
  "without one, of what the link was seen to carry. Of this and the other alerts: raised when it has been so for so many seconds, cleared when it has been better than "        \
  "THRESHOLD behind clear for as many as stand behind after. See docs/alerts.md."
#define NC_ALERT_SHAPE_HIGH_LATENCY "off, or milliseconds " NC_ALERT_FOR
#define NC_ALERT_HELP_HIGH_LATENCY "NovacronHighLatency: the round trip between the movers is longer."
#define NC_ALERT_SHAPE_PACKET_LOSS "off, or percent " NC_ALERT_FOR
#define NC_ALERT_HELP_PACKET_LOSS "NovacronPacketLoss: more of the movers' TCP segments were sent again."
#define NC_ALERT_SHAPE_NOT_CONVERGING "off, or on [for SECONDS] [after SECONDS]"
#define NC_ALERT_HELP_NOT_CONVERGING "NovacronNotConverging: the guest dirties its memory faster than it can be carried."
#define NC_ALERT_SHAPE_MOVER_BUSY "off, or percent of a processor " NC_ALERT_FOR
#define NC_ALERT_HELP_MOVER_BUSY "NovacronMoverBusy: a mover takes more of this node's processors."
#define NC_ALERT_SHAPE_PAUSE_OVER_BUDGET "off, or percent [after SECONDS]"
#define NC_ALERT_HELP_PAUSE_OVER_BUDGET \
  "NovacronPauseOverBudget: a guest stood still for longer than so much of its max_downtime_ms. Raised at the end of its migration."
#define NC_ALERT_SHAPE_STUCK "off, or seconds " NC_ALERT_FOR
#define NC_ALERT_HELP_STUCK "NovacronStuck: nothing of a migration has crossed for so long."
#define NC_ALERT_SHAPE_NEEDS_ATTENTION "off, or on [for SECONDS] [after SECONDS]"
#define NC_ALERT_HELP_NEEDS_ATTENTION "NovacronNeedsAttention: a migration waits for a human."
#define NC_ALERT_SHAPE_FAILURES "off, or migrations " NC_ALERT_FOR
#define NC_ALERT_HELP_FAILURES "NovacronFailures: more migrations from this node failed within half an hour."
#define NC_ALERT_SHAPE_STORE_NEARLY_FULL "off, or percent " NC_ALERT_FOR
#define NC_ALERT_HELP_STORE_NEARLY_FULL \
  "NovacronStoreNearlyFull: the page store has used more of what it may have: of store_budget_mib, or of what its disk has room for, whichever is less."
#define NC_ALERT_SHAPE_STORE_DOWN "off, or on [for SECONDS] [after SECONDS]"
#define NC_ALERT_HELP_STORE_DOWN "NovacronStoreDown: the page store takes no checkpoints."
#define NC_ALERT_SHAPE_CERTIFICATE_EXPIRES "off, or days " NC_ALERT_FOR
#define NC_ALERT_HELP_CERTIFICATE_EXPIRES "NovacronCertificateExpires: this node's certificate ends sooner."
