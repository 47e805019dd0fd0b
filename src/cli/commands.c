/* SPDX-License-Identifier: Apache-2.0 */
/* The table of subcommands: what exists, and what --help says about it. */
#include "cli/cli.h"

/* What the API takes at once. */
#define NC_FLEET_MOST_ITEMS 1000
#define NC_FLEET_MOST_NODES 100

const NcCommand nc_commands[] = {
  { "migrate", "NAME --to NODE", 1, 1, nc_cmd_migrate, "Move a running machine to another node.",
    "Examples:\n"
    "  novacron migrate web1 --to host-b --wait\n"
    "  novacron migrate web1 --to host-b --bandwidth 50MB/s --compression zstd:3\n"
    "  novacron migrate web1 --to host-b --wait --json >result.json\n\n"
    "Exit status with --wait: 0 completed, 9 cancelled, 11 needs attention, else as\n"
    "in novacron(1). Interrupting --wait (Ctrl-C) does not stop the migration." },
  { "check", "NAME --to NODE", 1, 1, nc_cmd_check, "Could this machine move there now? Starts nothing.",
    "Examples:\n  novacron check web1 --to host-b\n  novacron check web1 --to host-b --json\n\n"
    "Looks at the machine, the way and the other node, and measures round trip and\n"
    "bandwidth for a second. Exit status: 0 nothing speaks against it, 6 something does." },
  { "plan", "NAME --to NODE", 1, 1, nc_cmd_plan, "How long would a move and its pause be? Starts nothing.",
    "Examples:\n  novacron plan web1 --to host-b\n  novacron plan web1 --to host-b --bandwidth 50MB/s --algorithm pre-copy\n\n"
    "From a sample of the machine and of the way, and from earlier migrations; takes\n"
    "some seconds. Exit status: 0 it would come to its end, 12 it would not." },
  { "status", "[ID]", 0, 1, nc_cmd_status, "Show all migrations, or all about one.",
    "Examples:\n  novacron status\n  novacron status m-0t7bgtw5nn95j48m\n  novacron status m-0t7bgtw5nn95j48m --follow\n"
    "  novacron status --json" },
  { "top", "", 0, 0, nc_cmd_top, "Watch this node and its migrations, live.",
    "Examples:\n  novacron top\n  novacron top --batch -n 1\n  novacron top --json | jq .running[].progress\n\n"
    "Keys: q quit, arrows or j/k select, Enter details, s sort, ? help. Without a\n"
    "terminal it is plain text each second, as with --batch; with --json an object a\n"
    "line. NO_COLOR in the environment turns colours off." },
  { "report", "ID", 1, 1, nc_cmd_report, "Write all about a migration, for a ticket.",
    "Examples:\n  novacron report m-0t7bgtw5nn95j48m\n  novacron report m-0t7bgtw5nn95j48m --html /tmp/web1.html\n"
    "  novacron report m-0t7bgtw5nn95j48m --md\n  novacron report m-0t7bgtw5nn95j48m --json\n\n"
    "One HTML file that needs no other and no script (ID.html, or where -o or --html\n"
    "says); --md a short text, --json the record with what follows from it, both to\n"
    "standard output. Also of one that is under way, as of now. On the node that the\n"
    "machine left: the other one's record has less." },
  { "doctor", "[ID]", 0, 1, nc_cmd_doctor, "Is this node well? What was wrong with a migration?",
    "Examples:\n  novacron doctor\n  novacron doctor m-0t7bgtw5nn95j48m\n  novacron doctor --json\n\n"
    "Without ID it looks at this node and asks all others; with ID at that migration:\n"
    "what is seen, the likely cause, what to do. Exit status: 0 well, 1 warnings,\n"
    "2 problems; else as in novacron(1)." },
  { "cancel", "ID", 1, 1, nc_cmd_cancel, "Stop a migration; the machine stays where it is.",
    "Example:\n  novacron cancel m-0t7bgtw5nn95j48m\n\n"
    "Possible until the run right has been handed over." },
  { "limit", "ID", 1, 1, nc_cmd_limit, "Change a running migration's bandwidth or class.",
    "Examples:\n  novacron limit m-0t7bgtw5nn95j48m --bandwidth 20MB/s\n"
    "  novacron limit m-0t7bgtw5nn95j48m --bandwidth 0 --qos critical\n\n"
    "On the node that the machine leaves. What is left out stays as it is." },
  { "resolve", "ID --run-here | --give-up", 1, 1, nc_cmd_resolve, "Decide a migration that needs attention.",
    "Example:\n  novacron resolve m-0t7bgtw5nn95j48m --run-here\n\n"
    "Make sure FIRST that the machine does not and can not run on the other node:\n"
    "switch that node off or cut it from the machine's disks and networks. Two\n"
    "running copies of a machine destroy its disks.\n\n"
    "--give-up, on the node where the machine has arrived in post-copy: the other one\n"
    "will not come back with the pages that are missing here." },
  { "rollback", "ID [--back | --to-checkpoint | --checkpoint ID]", 1, 1, nc_cmd_rollback, "Undo a migration: back to where the machine came from.",
    "Examples:\n  novacron rollback m-0t7bgtw5nn95j48m\n  novacron rollback m-0t7bgtw5nn95j48m --back --wait\n\n"
    "One that is under way: the machine runs on where it is, as with cancel. One\n"
    "that is completed: say how; --back moves the machine, as it is now, back to\n"
    "where it came from, --checkpoint sets it back to that checkpoint (both on the\n"
    "node where it runs), --to-checkpoint to the one that was taken before it\n"
    "(migrate --checkpoint), there or on the node that it came from. What it did\n"
    "since is lost with the latter two." },
  { "alerts", "", 0, 0, nc_cmd_alerts, "Show what is wrong on this node, and what was.",
    "Examples:\n  novacron alerts\n  novacron alerts --json\n\n"
    "Those that fire, then those resolved within the last hour. Thresholds are in\n"
    "novacrond.conf(5), alert_*; docs/alerts.md says what each means." },
  { "audit list", "", 0, 0, nc_cmd_audit_list, "Show this node's transaction log.",
    "Examples:\n  novacron audit list\n  novacron audit list --about web1 --limit 200\n  novacron audit list --kind request --json" },
  { "audit verify", "", 0, 0, nc_cmd_audit_verify, "Prove that the transaction log was not tampered with.",
    "Examples:\n  novacron audit verify\n  novacron audit verify --file /backup/journal.db\n"
    "  novacron audit verify --expect 4711:HASH\n\n"
    "Exit status: 0 nothing was altered, moved or cut out; 10 something was, and the first bad\n"
    "entry is named. Nodes that took part in this node's migrations are asked what they\n"
    "last heard of its log; one that is away is named." },
  { "vm define", "FILE", 1, 1, nc_cmd_vm_define, "Define a machine from a machine file.",
    "Example:\n  novacron vm define /etc/novacron/machines/web1.conf\n\n"
    "The file's format is in novacron(1), MACHINE FILE. A file that begins with \"{\"\n"
    "is read as JSON." },
  { "vm list", "", 0, 0, nc_cmd_vm_list, "List this node's machines.", "Example:\n  novacron vm list" },
  { "vm show", "NAME", 1, 1, nc_cmd_vm_show, "Show a machine.", "Example:\n  novacron vm show web1" },
  { "vm start", "NAME [--take]", 1, 1, nc_cmd_vm_start, "Start a machine, or let a paused one go on.", "Example:\n  novacron vm start web1" },
  { "vm stop", "NAME", 1, 1, nc_cmd_vm_stop, "Shut a machine down.",
    "Examples:\n  novacron vm stop web1\n  novacron vm stop web1 --force\n\n"
    "Without --force the guest's power button is pressed and it has time to end." },
  { "vm destroy", "NAME", 1, 1, nc_cmd_vm_destroy, "Forget a stopped machine; its disks are not touched.",
    "Example:\n  novacron vm destroy web1" },
  { "vm adopt", "NAME --qmp PATH", 1, 1, nc_cmd_vm_adopt, "Take over a running QEMU that somebody else started.",
    "Example:\n  novacron vm adopt web1 --qmp /run/vm/web1.qmp" },
  { "checkpoint create", "NAME", 1, 1, nc_cmd_checkpoint_create, "Save memory, devices and disks as they are now.",
    "Examples:\n  novacron checkpoint create web1 --label \"before the upgrade\"\n  novacron checkpoint create web1 --mode stop\n\n"
    "The guest runs on, but for some ten milliseconds; where QEMU or host can't do\n"
    "that (or with --mode stop) it stands still while its memory is saved. What is in\n"
    "the store already costs nothing: the second is as large as what has changed." },
  { "checkpoint list", "[NAME]", 0, 1, nc_cmd_checkpoint_list, "List this node's checkpoints, or those of a machine.",
    "Examples:\n  novacron checkpoint list\n  novacron checkpoint list web1" },
  { "checkpoint show", "ID", 1, 1, nc_cmd_checkpoint_show, "Show a checkpoint.", "Example:\n  novacron checkpoint show c-0tnpya6pejb5gsgd" },
  { "checkpoint verify", "ID", 1, 1, nc_cmd_checkpoint_verify, "Read and check every block of a checkpoint.",
    "Example:\n  novacron checkpoint verify c-0tnpya6pejb5gsgd\n\nNames what is lost, if something is." },
  { "checkpoint restore", "ID", 1, 1, nc_cmd_checkpoint_restore, "Make a machine what it was, or a new one of it.",
    "Examples:\n  novacron checkpoint restore c-0tnpya6pejb5gsgd --force\n"
    "  novacron checkpoint restore c-0tnpya6pejb5gsgd --as web1-copy --paused\n"
    "  novacron checkpoint restore c-0tnpya6pejb5gsgd --on host-b --as web1-copy\n\n"
    "All of it is verified first. In place, the machine must be stopped, or --force\n"
    "be given. One that has moved to another node, or came from one, is restored\n"
    "under a new name (--as), whose guest still believes in the original's MAC and\n"
    "IP addresses; or, only if it certainly runs nowhere else, with --take. --on\n"
    "copies to the other node what is missing there, and restores it there. Exit\n"
    "status: 10 something of it is lost, and nothing was restored." },
  { "checkpoint copy", "ID --to NODE", 1, 1, nc_cmd_checkpoint_copy, "Copy a checkpoint to another node's store.",
    "Example:\n  novacron checkpoint copy c-0tnpya6pejb5gsgd --to host-b\n\n"
    "Only what that store lacks is sent. If it is interrupted, the same command goes\n"
    "on. Exit status: 8 the other node can't be reached, 9 cancelled." },
  { "checkpoint cancel", "ID", 1, 1, nc_cmd_checkpoint_cancel, "Stop a copy, or the making or arrival of a checkpoint.",
    "Example:\n  novacron checkpoint cancel c-0tnpya6pejb5gsgd" },
  { "checkpoint schedule", "NAME --every DURATION | --off", 1, 1, nc_cmd_checkpoint_schedule, "Make checkpoints of a machine by the clock.",
    "Examples:\n  novacron checkpoint schedule web1 --every 1h --keep 24\n  novacron checkpoint schedule web1 --off\n\n"
    "Of those made so, the last ones are kept (7, if not said); those that people\nmade are left alone." },
  { "checkpoint delete", "ID", 1, 1, nc_cmd_checkpoint_delete, "Delete a checkpoint, or cancel one that is being made.",
    "Example:\n  novacron checkpoint delete c-0tnpya6pejb5gsgd\n\nWhat other checkpoints need of it stays." },
  { "store status", "", 0, 0, nc_cmd_store_status, "Show what this node's page store holds and costs.",
    "Example:\n  novacron store status" },
  { "store verify", "", 0, 0, nc_cmd_store_verify, "Read and check all of this node's page store.",
    "Examples:\n  novacron store verify\n  novacron store verify --rebuild-index --no-wait\n\n"
    "Names every checkpoint that loses something. Exit status: 0 all of it is what it\n"
    "was, 10 something is damaged." },
  { "store gc", "", 0, 0, nc_cmd_store_gc, "Free what of the page store nothing needs any more.",
    "Examples:\n  novacron store gc --dry-run\n  novacron store gc\n\n"
    "Happens by itself when a checkpoint is deleted." },
  { "store cancel", "", 0, 0, nc_cmd_store_cancel, "End a verify or gc of the page store that is under way.",
    "Example:\n  novacron store cancel\n\nNothing is lost: what a gc had not come to, the next one does." },
  { "node list", "", 0, 0, nc_cmd_node_list, "List the nodes of the cluster.", "Example:\n  novacron node list" },
  { "node info", "", 0, 0, nc_cmd_node_info, "Show this node.", "Example:\n  novacron node info" },
  { "node token", "", 0, 0, nc_cmd_node_token, "Make a one-time token for a new node.",
    "Examples:\n  novacron node token\n  novacron node token --name host-c --ttl 15min\n\n"
    "On the new node: novacrond join --token TOKEN --to HOST:PORT --name NAME --address HOST:PORT" },
  { "node remove", "NAME", 1, 1, nc_cmd_node_remove, "Remove a node: its certificate is refused from now on.",
    "Example:\n  novacron node remove host-c\n\nIts machines are not touched." },
  { "node cordon", "NODE", 1, 1, nc_cmd_fleet_cordon, "The same as fleet cordon.", "Example:\n  novacron node cordon host-a" },
  { "node uncordon", "NODE", 1, 1, nc_cmd_fleet_uncordon, "The same as fleet uncordon.",
    "Example:\n  novacron node uncordon host-a" },
  { "evacuate", "NODE...", 1, NC_FLEET_MOST_NODES, nc_cmd_fleet_evacuate, "The same as fleet evacuate.",
    "Examples:\n  novacron evacuate host-a --plan\n  novacron evacuate host-a --wait\n\n"
    "See novacron fleet evacuate --help." },
  { "batch", "NAME[:NODE]...", 1, NC_FLEET_MOST_ITEMS, nc_cmd_fleet_batch, "The same as fleet batch.",
    "Example:\n  novacron batch web1 web2 db1:host-c --wait\n\nSee novacron fleet batch --help." },
  { "queue", "", 0, 0, nc_cmd_queue, "List the fleet's migrations that have not ended.",
    "Examples:\n  novacron queue\n  novacron queue --node host-a --json" },
  { "history", "", 0, 0, nc_cmd_history, "List the fleet's migrations that have ended.",
    "Examples:\n  novacron history --limit 20\n  novacron history --machine web1 --all" },
  { "events", "", 0, 0, nc_cmd_events, "Show what happened in the fleet.",
    "Examples:\n  novacron events\n  novacron events --follow\n"
    "  novacron events --follow --json --after 4711\n\n"
    "With --follow until interrupted; a restart of NovaCron, or another leader, is\n"
    "waited for." },
  { "token create", "--subject NAME --role ROLE", 0, 0, nc_cmd_token_create, "Make a bearer token for a person or a program.",
    "Examples:\n  novacron token create --subject ci --role operator --expires 30d >ci.token\n"
    "  novacron --url https://host-a:7443 --token-file ci.token vm list\n\n"
    "It is printed once; only a hash of it is kept. viewer: looks; operator: moves\n"
    "machines, cancels, rolls back, cordons, takes checkpoints; admin: everything.\n"
    "Over HTTPS a client certificate is needed besides, unless gate.conf says\n"
    "tokens-without-certificate = yes." },
  { "token list", "", 0, 0, nc_cmd_token_list, "List bearer tokens, without their secrets.", "Example:\n  novacron token list" },
  { "token revoke", "ID", 1, 1, nc_cmd_token_revoke, "End a bearer token: it is refused from now on.",
    "Example:\n  novacron token revoke tok-0t7bd31dsw67hqqr" },
  { "fleet status", "", 0, 0, nc_cmd_fleet_status, "Which controller leads the fleet?", "Example:\n  novacron fleet status" },
  { "fleet nodes", "", 0, 0, nc_cmd_fleet_nodes, "List the nodes that the controller sees.",
    "Examples:\n  novacron fleet nodes\n  novacron fleet nodes --json" },
  { "fleet machines", "", 0, 0, nc_cmd_fleet_machines, "List the machines of all nodes, and where they are.",
    "Examples:\n  novacron fleet machines\n  novacron fleet machines --node host-a" },
  { "fleet list", "", 0, 0, nc_cmd_fleet_list, "List the fleet's migrations, newest first.",
    "Examples:\n  novacron fleet list --unfinished\n  novacron fleet list --machine web1 --all\n"
    "  novacron fleet list --evacuation eva-0t7bgtw5nn95j48m --json" },
  { "fleet batches", "", 0, 0, nc_cmd_fleet_batches, "List the batches that were asked for, newest first.", "Example:\n  novacron fleet batches --limit 20" },
  { "fleet evacuations", "", 0, 0, nc_cmd_fleet_evacuations, "List the evacuations of nodes, newest first.",
    "Examples:\n  novacron fleet evacuations\n  novacron fleet evacuations --unfinished" },
  { "fleet show", "ID", 1, 1, nc_cmd_fleet_show, "Show a migration, batch or evacuation of the fleet.",
    "Examples:\n  novacron fleet show mig-0t7bgtw5nn95j48m\n  novacron fleet show eva-0t7bgtw5nn95j48m --json" },
  { "fleet migrate", "NAME", 1, 1, nc_cmd_fleet_migrate, "Queue a move of a machine, wherever it is.",
    "Examples:\n  novacron fleet migrate web1\n  novacron fleet migrate web1 --to host-b --priority high --wait\n"
    "  novacron fleet migrate web1 --explain\n\n"
    "Without --to the controller chooses the node. The move begins when limits and\n"
    "room allow. Exit status with --wait: 0 completed, 6 refused, 9 cancelled, 10\n"
    "failed, 11 needs attention. Interrupting --wait (Ctrl-C) does not stop it." },
  { "fleet batch", "NAME[:NODE]...", 1, NC_FLEET_MOST_ITEMS, nc_cmd_fleet_batch, "Queue moves of several machines as one.",
    "Examples:\n  novacron fleet batch web1 web2 db1:host-c --wait\n"
    "  novacron fleet batch --policy all web1:host-b web2:host-b\n\n"
    "With --policy all nothing is queued if one of them can't be. Exit status: 6\n"
    "something was not submitted or, with --wait, did not move." },
  { "fleet evacuate", "NODE...", 1, NC_FLEET_MOST_NODES, nc_cmd_fleet_evacuate, "Empty nodes, after showing the plan.",
    "Examples:\n  novacron fleet evacuate host-a --plan\n  novacron fleet evacuate host-a --wait\n"
    "  novacron fleet evacuate host-a host-b --yes --priority high\n\n"
    "The nodes are cordoned, and stay so. Without a terminal, and with --json, --yes\n"
    "is needed. Exit status: 6 something can't move or, with --wait, did not; 9 not\n"
    "begun, or cancelled. Interrupting --wait (Ctrl-C) does not stop it." },
  { "fleet cancel", "ID", 1, 1, nc_cmd_fleet_cancel, "Cancel a migration, batch or evacuation of the fleet.",
    "Examples:\n  novacron fleet cancel mig-0t7bgtw5nn95j48m\n"
    "  novacron fleet cancel eva-0t7bgtw5nn95j48m --also-running --reason \"host-b is full\"\n\n"
    "What has moved stays where it is; nodes stay cordoned." },
  { "fleet cordon", "NODE", 1, 1, nc_cmd_fleet_cordon, "Let nothing more come to a node.", "Example:\n  novacron fleet cordon host-a" },
  { "fleet uncordon", "NODE", 1, 1, nc_cmd_fleet_uncordon, "Let machines come to a node again.",
    "Example:\n  novacron fleet uncordon host-a" },
  { "pki init", "--name NODE --address HOST:PORT", 0, 0, nc_cmd_pki_init, "Make a new cluster on this node.",
    "Example:\n  novacron pki init --name host-a --address 192.0.2.1:7450\n\n"
    "Makes the cluster's CA, this node's key and certificate, and the list of nodes.\n"
    "--dir is where they go; its last part must be \"pki\", else a directory pki is\n"
    "made below it. Nothing is overwritten." },
  { "pki renew", "", 0, 0, nc_cmd_pki_renew, "Give this node a new key and certificate.",
    "Examples:\n  novacron pki renew\n  novacron pki renew --days 365\n\n"
    "On any node, before its certificate ends: novacrond makes a key, and has it\n"
    "certified by the node with the CA's key, which it must be able to reach; that\n"
    "one does it by itself, also when its certificate has ended. Nothing is\n"
    "interrupted. Any other node has to join again once its certificate has ended." },
  { "relay listen", "--bind HOST:PORT --unix PATH", 0, 0, nc_cmd_relay_listen,
    "Take in what \"relay connect\" sends, for any QEMU.",
    "Example:\n"
    "  qemu-system-x86_64 ... -incoming unix:/run/vm/in.sock\n"
    "  novacron relay listen --bind 0.0.0.0:7451 --unix /run/vm/in.sock --once\n\n"
    "Serves one session at a time until interrupted; --once ends with the first. The\n"
    "other side must be a node of the same cluster (novacron pki init, novacrond join);\n"
    "novacrond need not run." },
  { "relay connect", "--to HOST:PORT --unix PATH", 0, 0, nc_cmd_relay_connect,
    "Carry a migration of plain QEMU over NovaCron's wire.",
    "Example:\n"
    "  novacron relay connect --to host-b:7451 --unix /run/vm/out.sock\n"
    "  (QEMU's monitor) migrate -d unix:/run/vm/out.sock\n\n"
    "Makes the socket, waits for one QEMU, and ends with its migration. Between the\n"
    "two QEMUs nothing changes: no run right, no grant; if a relay is stopped, the\n"
    "migration fails as on a broken TCP connection. See docs/relay.md.\n\n"
    "Exit status: 0 completed, 9 cancelled, else as in novacron(1)." },
  { "simulate", "FILE", 1, 1, nc_cmd_simulate, "How long would it take to empty this rack? Computes it.",
    "Examples:\n  novacron simulate rack.json\n  novacron simulate rack.json --seed 7 --json >report.json\n\n"
    "The file names nodes, links, machines and what is to happen: see\n"
    "novacron-scenario(5), with an example. novacrond need not run. Exit status:\n"
    "0 everything moved, 6 something could not, or did not." },
  { "version", "", 0, 0, nc_cmd_version, "Print the version.", "Example:\n  novacron version" },
  { "help", "[COMMAND]", 0, 2, nc_cmd_help, "List the commands, or explain one.",
    "Examples:\n  novacron help\n  novacron help vm define" },
  { 0 },
};
