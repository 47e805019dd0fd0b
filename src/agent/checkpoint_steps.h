/* SPDX-License-Identifier: Apache-2.0 */
/* What rollbacks need of this node's checkpoints (agent/rollback_steps.h), out of what people can do with them. */
#pragma once

#include "agent/checkpoints.h"
#include "agent/rollback_steps.h"

/*
 * ${checkpoints} is borrowed by the steps and outlives their use; its list was read (nc_checkpoints_recover())
 * before they are called. Disks and memory are restored in one act, in place, paused: restore_memory finds it done, or
 * does it again if the QEMU that held it is gone.
 */
NcRollbackSteps nc_checkpoint_steps(NcCheckpoints *checkpoints);
