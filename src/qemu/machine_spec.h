/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a machine is made of: the machine file and its JSON form.
 *
 * The file has `key = value` lines in sections [machine] (may be left out at the
 * beginning), [disk NAME], [nic NAME], [serial NAME]; `#` begins a comment line.
 * docs/sample-machine.conf shows every key. An unknown key or a bad value is
 * NC_ERROR_INVALID naming file, line and key (in JSON: the key). The JSON form has the
 * same keys, with "disks", "nics", "serial" as arrays of objects with "name". A
 * key that is missing means the same in both, but for `balloon`: a file describes a
 * new machine, while JSON without it may have been stored before there was the key, and
 * a machine's devices stay what they are: none.
 */
#pragma once

#include "base/error.h"
#include "base/msg.h"
#include <stdint.h>

#define NC_SPEC_DEVICES_MAX 32 /* of each kind: what fits on one PCI bus beside the rest */
#define NC_RUN_MARK "@RUN@" /* in adopted_argv: the machine's run directory */
#define NC_SPEC_DISK_NAME_MAX 29 /* QEMU's node names have at most 31 characters, ours begin with "f-" */
#define NC_SPEC_LABELS_MAX 16 /* that a machine requires: fleet/inventory.h */
#define NC_SPEC_PRIORITIES "critical|high|normal|low"
#define NC_SPEC_FILE_MAX (256u << 10)
#define NC_SPEC_BALLOON_NONE "none"
#define NC_SPEC_BALLOON_HINTS "free-page-hint" /* as QEMU's property */

typedef struct {
  char *name;
  char *path;
  char *format;    /* "raw", "qcow2" */
  char *interface; /* "virtio", "ide", "scsi" */
  char *cache;     /* "none", "writeback", "writethrough", "directsync", "unsafe"; default "none" */
  bool readonly;
  bool shared; /* both nodes see the same file: nothing is copied */
} NcDiskSpec;

typedef struct {
  char *name;
  char *bridge; /* NULL: the tap is in none of ours */
  char *tap;    /* the device's name; derived if not given */
  char *mac;    /* derived from machine and NIC if not given, so that it stays the same everywhere */
  char *model;  /* default "virtio-net-pci" */
} NcNicSpec;

typedef struct {
  char *name;
  char *kind; /* "unix": socket RUN_DIR/NAME.sock; "file": RUN_DIR/NAME.log. Not named like a socket of ours */
} NcSerialSpec;

typedef struct {
  char *name;
  unsigned vcpus;         /* 1 to 512 */
  unsigned memory_mib;    /* 1 to 2^24 */
  unsigned memory_extra_kib; /* 0 to 1020, a multiple of 4: see CONTRIBUTING.md, the RAM-size rule */
  char *machine; /* "pc", "q35", ... or a versioned name */
  char *cpu;
  char *accel; /* "auto", "kvm", "tcg" */
  char *firmware, *kernel, *initrd, *cmdline; /* NULL: none */
  char *uuid;        /* derived from the name if not given; NULL for an adopted machine */
  char *qemu_binary; /* NULL: the node's */
  char **qemu_args;  /* raw arguments, appended; NULL-terminated, never NULL */
  bool observer_qmp; /* a second QMP socket RUN_DIR/observer.sock */
  char *balloon;     /* NC_SPEC_BALLOON_HINTS: a virtio-balloon behind all other devices; NC_SPEC_BALLOON_NONE */
  char *priority;  /* one of NC_SPEC_PRIORITIES: when its node is evacuated by a controller */
  char **requires; /* labels that a node must have for a controller to place it there; NULL-terminated, never NULL */
  unsigned checkpoint_every_s; /* 0: none are made by the clock */
  unsigned checkpoint_keep;    /* of these, how many */
  GPtrArray *disks, *nics, *serials; /* of the structs above */
  char **adopted_argv; /* an adopted machine: its own arguments, without argv[0], with NC_RUN_MARK (adopt.h); NULL otherwise */
} NcMachineSpec;

/* ${path} is a machine file. NULL on error. */
NcMachineSpec *nc_machine_spec_load(const char *path, GError **error);
/* The same for a text; ${name} stands for the file in errors. */
NcMachineSpec *nc_machine_spec_parse(const char *name, const char *text, GError **error);
NcMachineSpec *nc_machine_spec_from_json(json_t *json, GError **error);
/* New reference; what from_json() takes, with every default spelled out. */
json_t *nc_machine_spec_to_json(const NcMachineSpec *spec);
/*
 * Checks what holds between fields and derives UUID, MACs, taps and balloon (NULL) that were left out; the functions
 * above do it.
 */
bool nc_machine_spec_complete(NcMachineSpec *spec, GError **error);
void nc_machine_spec_free(NcMachineSpec *spec);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcMachineSpec, nc_machine_spec_free)

/* The tap of a NIC that names none: stable, and short enough. Caller frees. */
char *nc_machine_tap_name(const char *machine, const char *nic);
/* For a device list of ${spec}: a new entry at its end, with defaults and ${name}; owned by ${spec}. NULL if the list is full. */
NcNicSpec *nc_machine_spec_add_nic(NcMachineSpec *spec, const char *name, GError **error);
NcDiskSpec *nc_machine_spec_add_disk(NcMachineSpec *spec, const char *name, GError **error);
/* An empty machine with defaults, to be filled and then completed. */
NcMachineSpec *nc_machine_spec_new(const char *name);

/* RAM in bytes. */
uint64_t nc_machine_spec_memory_bytes(const NcMachineSpec *spec);
