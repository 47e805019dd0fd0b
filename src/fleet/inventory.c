/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays by number, tables by name, trees by free memory. */
#include "fleet/inventory_internal.h"
#include "base/ident.h"
#include "fleet/disk_room.h"

#include <string.h>

typedef struct {
  char *name;
  NcRoomTree tree;
} NcLabel;

static const char *const nc_priority_names[] = { "critical", "high", "normal", "low" };
G_STATIC_ASSERT(G_N_ELEMENTS(nc_priority_names) == NC_PRIORITY_COUNT);

const char *
nc_priority_name(NcPriority priority)
{
  return nc_priority_names[priority];
}

bool
nc_priority_from_name(const char *name, NcPriority *ret)
{
  for (int i = 0; name && i < NC_PRIORITY_COUNT; i++) {
    if (g_str_equal(nc_priority_names[i], name)) {
      *ret = (NcPriority)i;
      return true;
    }
  }
  return false;
}

/* --- life --- */

NcFleet *
nc_fleet_new(void)
{
  NcFleet *f = g_new0(NcFleet, 1);

  f->links = g_array_new(FALSE, TRUE, sizeof(NcLink));
  f->nodes = g_array_new(FALSE, TRUE, sizeof(NcNode));
  f->machines = g_array_new(FALSE, TRUE, sizeof(NcMachine));
  f->labels = g_array_new(FALSE, TRUE, sizeof(NcLabel));
  f->directories = g_ptr_array_new_with_free_func(g_free);
  f->bringers = g_ptr_array_new_with_free_func(g_free);
  f->free_machines = g_array_new(FALSE, FALSE, sizeof(uint32_t));
  f->link_names = g_hash_table_new(g_str_hash, g_str_equal);
  f->node_names = g_hash_table_new(g_str_hash, g_str_equal);
  f->machine_names = g_hash_table_new(g_str_hash, g_str_equal);
  f->label_names = g_hash_table_new(g_str_hash, g_str_equal);
  return f;
}

NcNode *
nc_fleet_node_mutable(NcFleet *f, uint32_t node)
{
  return &g_array_index(f->nodes, NcNode, node);
}

NcMachine *
nc_fleet_machine_mutable(NcFleet *f, uint32_t machine)
{
  return &g_array_index(f->machines, NcMachine, machine);
}

void
nc_fleet_free(NcFleet *f)
{
  if (!f)
    return;
  g_hash_table_unref(f->link_names);
  g_hash_table_unref(f->node_names);
  g_hash_table_unref(f->machine_names);
  g_hash_table_unref(f->label_names);
  for (guint i = 0; i < f->links->len; i++)
    g_free(g_array_index(f->links, NcLink, i).name);
  for (guint i = 0; i < f->labels->len; i++)
    g_free(g_array_index(f->labels, NcLabel, i).name);
  for (guint i = 0; i < f->nodes->len; i++) {
    g_free(nc_fleet_node_mutable(f, i)->name);
    g_free(nc_fleet_node_mutable(f, i)->labels);
    g_free(nc_fleet_node_mutable(f, i)->entries);
    g_free(nc_fleet_node_mutable(f, i)->file_systems);
    g_free(nc_fleet_node_mutable(f, i)->on_file_system);
  }
  for (guint i = 0; i < f->machines->len; i++) {
    g_free(nc_fleet_machine_mutable(f, i)->name);
    g_free(nc_fleet_machine_mutable(f, i)->requires);
    g_free(nc_fleet_machine_mutable(f, i)->disks);
  }
  g_array_unref(f->links);
  g_array_unref(f->nodes);
  g_array_unref(f->machines);
  g_array_unref(f->labels);
  g_array_unref(f->free_machines);
  g_ptr_array_unref(f->directories);
  g_ptr_array_unref(f->bringers);
  g_free(f->left_out);
  g_free(f);
}

/* --- looking --- */

uint32_t
nc_fleet_link_count(const NcFleet *f)
{
  return f->links->len;
}

uint32_t
nc_fleet_node_count(const NcFleet *f)
{
  return f->nodes->len;
}

uint32_t
nc_fleet_machine_count(const NcFleet *f)
{
  return f->machines->len;
}

const NcLink *
nc_fleet_link(const NcFleet *f, uint32_t link)
{
  return &g_array_index(f->links, NcLink, link);
}

const NcNode *
nc_fleet_node(const NcFleet *f, uint32_t node)
{
  return &g_array_index(f->nodes, NcNode, node);
}

const NcMachine *
nc_fleet_machine(const NcFleet *f, uint32_t machine)
{
  return &g_array_index(f->machines, NcMachine, machine);
}

static uint32_t
nc_fleet_find(GHashTable *names, const char *name)
{
  guint number = GPOINTER_TO_UINT(g_hash_table_lookup(names, name));
  return number > 0 ? number - 1 : NC_FLEET_NONE;
}

uint32_t
nc_fleet_find_link(const NcFleet *f, const char *name)
{
  return nc_fleet_find(f->link_names, name);
}

uint32_t
nc_fleet_find_node(const NcFleet *f, const char *name)
{
  return nc_fleet_find(f->node_names, name);
}

uint32_t
nc_fleet_find_machine(const NcFleet *f, const char *name)
{
  return nc_fleet_find(f->machine_names, name);
}

const char *
nc_fleet_label_name(const NcFleet *f, uint32_t label)
{
  return g_array_index(f->labels, NcLabel, label).name;
}

uint64_t
nc_fleet_largest_memory(const NcFleet *f)
{
  return f->largest_memory;
}

NcRoom
nc_fleet_free_room(const NcFleet *f, uint32_t node)
{
  const NcNode *n = nc_fleet_node(f, node);
  return (NcRoom){ n->capacity.memory_bytes - n->used.memory_bytes,
                   n->file_system_count > 0 ? nc_disks_free(n) : n->capacity.disk_bytes - n->used.disk_bytes,
                   n->capacity.cpus - n->used.cpus };
}

NcRoom
nc_fleet_share(const NcFleet *f, uint32_t node, const NcRoom *need)
{
  bool is_counted = nc_fleet_node(f, node)->file_system_count == 0;
  return (NcRoom){ need->memory_bytes, is_counted ? need->disk_bytes : 0, need->cpus };
}

uint32_t
nc_fleet_missing_label(const NcFleet *f, uint32_t machine, uint32_t node)
{
  const NcMachine *m = nc_fleet_machine(f, machine);
  const NcNode *n = nc_fleet_node(f, node);

  for (unsigned i = 0, k = 0; i < m->require_count; i++) { /* both are sorted */
    while (k < n->label_count && n->labels[k] < m->requires[i])
      k++;
    if (k == n->label_count || n->labels[k] != m->requires[i])
      return m->requires[i];
  }
  return NC_FLEET_NONE;
}

/* --- the trees --- */

static NcRoomTree *
nc_fleet_node_tree(NcFleet *f, const NcNode *n, unsigned which)
{
  if (which == 0)
    return &f->tree;
  if (which == 1)
    return n->link == NC_FLEET_NONE ? NULL : &g_array_index(f->links, NcLink, n->link).tree;
  return &g_array_index(f->labels, NcLabel, n->labels[which - 2]).tree;
}

void
nc_fleet_unindex(NcFleet *f, uint32_t node)
{
  NcNode *n = nc_fleet_node_mutable(f, node);

  for (unsigned i = 0; n->is_indexed && i < n->label_count + 2; i++) {
    NcRoomTree *tree = nc_fleet_node_tree(f, n, i);
    if (tree)
      nc_room_tree_remove(tree, &n->entries[i]);
  }
  n->is_indexed = false;
}

void
nc_fleet_index(NcFleet *f, uint32_t node)
{
  NcNode *n = nc_fleet_node_mutable(f, node);

  n->is_indexed = !n->is_down && !n->is_cordoned;
  for (unsigned i = 0; n->is_indexed && i < n->label_count + 2; i++) {
    NcRoomTree *tree = nc_fleet_node_tree(f, n, i);
    n->entries[i].room = nc_fleet_free_room(f, node);
    n->entries[i].id = node;
    if (tree)
      nc_room_tree_insert(tree, &n->entries[i]);
  }
}

const NcRoomTree *
nc_fleet_tree_for(const NcFleet *f, uint32_t machine)
{
  const NcMachine *m = nc_fleet_machine(f, machine);
  const NcRoomTree *best = &f->tree;

  for (unsigned i = 0; i < m->require_count; i++) {
    const NcRoomTree *tree = &g_array_index(f->labels, NcLabel, m->requires[i]).tree;
    if (tree->count < best->count)
      best = tree;
  }
  return best;
}

const NcRoomTree *
nc_fleet_tree_of_link(const NcFleet *f, uint32_t link)
{
  return &nc_fleet_link(f, link)->tree;
}

void
nc_fleet_set_down(NcFleet *f, uint32_t node, bool is_down)
{
  nc_fleet_unindex(f, node);
  nc_fleet_node_mutable(f, node)->is_down = is_down;
  nc_fleet_index(f, node);
}

void
nc_fleet_set_cordoned(NcFleet *f, uint32_t node, bool is_cordoned)
{
  nc_fleet_unindex(f, node);
  nc_fleet_node_mutable(f, node)->is_cordoned = is_cordoned;
  nc_fleet_index(f, node);
}

void
nc_fleet_set_stopped(NcFleet *f, uint32_t machine, bool is_stopped)
{
  nc_fleet_machine_mutable(f, machine)->is_stopped = is_stopped;
}

/* --- adding --- */

/* Takes the name into ${names} for number ${number}; NULL: it can't be. */
static char *
nc_fleet_take_name(GHashTable *names, uint32_t number, const char *what, const char *name, GError **error)
{
  if (!name || !nc_name_is_valid(name)) {
    nc_fail(error, NC_ERROR_INVALID, "\"%s\" can't be a %s: %s", name ? name : "", what, NC_NAME_RULE);
    return NULL;
  }
  if (number >= NC_FLEET_MOST) {
    nc_fail(error, NC_ERROR_RESOURCE, "%u is the most there can be of a %s", NC_FLEET_MOST, what);
    return NULL;
  }
  if (g_hash_table_contains(names, name)) {
    nc_fail(error, NC_ERROR_EXISTS, "there is a %s \"%s\" already", what, name);
    return NULL;
  }
  char *copy = g_strdup(name);
  g_hash_table_insert(names, copy, GUINT_TO_POINTER(number + 1));
  return copy;
}

static uint32_t
nc_fleet_label(NcFleet *f, const char *name)
{
  uint32_t label = nc_fleet_find(f->label_names, name);

  if (label == NC_FLEET_NONE) {
    NcLabel new = { .name = g_strdup(name) };
    g_array_append_val(f->labels, new);
    label = f->labels->len - 1;
    g_hash_table_insert(f->label_names, new.name, GUINT_TO_POINTER(label + 1));
  }
  return label;
}

/* Sorted, each once. False: there are too many. */
static bool
nc_fleet_labels(NcFleet *f, const char *const *names, uint32_t **ret, unsigned *ret_count, GError **error)
{
  uint32_t labels[NC_FLEET_MOST_LABELS];
  unsigned count = 0;

  for (; names && *names; names++) {
    uint32_t label = nc_fleet_label(f, *names);
    unsigned at = 0;
    while (at < count && labels[at] < label)
      at++;
    if (at < count && labels[at] == label)
      continue;
    if (count == NC_FLEET_MOST_LABELS)
      return nc_fail(error, NC_ERROR_INVALID, "%u labels are the most", NC_FLEET_MOST_LABELS);
    memmove(&labels[at + 1], &labels[at], (count - at) * sizeof labels[0]);
    labels[at] = label;
    count++;
  }
  *ret = count > 0 ? g_memdup2(labels, count * sizeof labels[0]) : NULL;
  *ret_count = count;
  return true;
}

static unsigned
nc_fleet_depth(const NcFleet *f, uint32_t link)
{
  unsigned depth = 0;

  for (; link != NC_FLEET_NONE; link = nc_fleet_link(f, link)->uplink)
    depth++;
  return depth;
}

uint32_t
nc_fleet_add_link(NcFleet *f, const NcLinkSpec *spec, GError **error)
{
  NcLink link = { .rate_bps = spec->rate_bps, .rtt_us = spec->rtt_us, .uplink = spec->uplink };

  /* It can only hang at one that is there already: so there are no circles. */
  if (spec->uplink != NC_FLEET_NONE && nc_fleet_depth(f, spec->uplink) >= NC_FLEET_MOST_UPLINKS) {
    nc_fail(error, NC_ERROR_INVALID, "link \"%s\": %u links above each other are the most", spec->name, NC_FLEET_MOST_UPLINKS);
    return NC_FLEET_NONE;
  }
  link.name = nc_fleet_take_name(f->link_names, f->links->len, "link", spec->name, error);
  if (!link.name)
    return NC_FLEET_NONE;
  g_array_append_val(f->links, link);
  return f->links->len - 1;
}

uint32_t
nc_fleet_add_node(NcFleet *f, const NcNodeSpec *spec, GError **error)
{
  NcNode node = { .capacity = spec->capacity,
                  .rate_bps = spec->rate_bps,
                  .link = spec->link,
                  .in_limit = spec->in_limit,
                  .out_limit = spec->out_limit,
                  .first_machine = NC_FLEET_NONE };

  if (!nc_fleet_labels(f, spec->labels, &node.labels, &node.label_count, error))
    return NC_FLEET_NONE;
  node.name = nc_fleet_take_name(f->node_names, f->nodes->len, "node", spec->name, error);
  if (!node.name) {
    g_free(node.labels);
    return NC_FLEET_NONE;
  }
  node.entries = g_new0(NcRoomEntry, node.label_count + 2);
  nc_disks_of_node(f, spec->file_systems, spec->file_system_count, &node);
  g_array_append_val(f->nodes, node);
  f->largest_memory = MAX(f->largest_memory, node.capacity.memory_bytes);
  nc_fleet_index(f, f->nodes->len - 1);
  return f->nodes->len - 1;
}

/* --- room --- */

static void
nc_fleet_use(NcFleet *f, uint32_t node, const NcRoom *room)
{
  NcNode *n = nc_fleet_node_mutable(f, node);

  nc_fleet_unindex(f, node);
  n->used.memory_bytes += room->memory_bytes;
  n->used.disk_bytes += room->disk_bytes;
  n->used.cpus += room->cpus;
  nc_fleet_index(f, node);
}

void
nc_fleet_give_back(NcFleet *f, uint32_t node, const NcRoom *room)
{
  NcNode *n = nc_fleet_node_mutable(f, node);

  nc_fleet_unindex(f, node);
  n->used.memory_bytes -= room->memory_bytes;
  n->used.disk_bytes -= room->disk_bytes;
  n->used.cpus -= room->cpus;
  nc_fleet_index(f, node);
}

static void
nc_fleet_put(NcFleet *f, uint32_t machine, uint32_t node)
{
  NcMachine *m = nc_fleet_machine_mutable(f, machine);
  NcNode *n = nc_fleet_node_mutable(f, node);

  m->node = node;
  m->previous = NC_FLEET_NONE;
  m->next = n->first_machine;
  if (m->next != NC_FLEET_NONE)
    nc_fleet_machine_mutable(f, m->next)->previous = machine;
  n->first_machine = machine;
  n->machine_count++;
}

void
nc_fleet_take(NcFleet *f, uint32_t machine)
{
  NcMachine *m = nc_fleet_machine_mutable(f, machine);
  NcNode *n = nc_fleet_node_mutable(f, m->node);

  if (m->next != NC_FLEET_NONE)
    nc_fleet_machine_mutable(f, m->next)->previous = m->previous;
  if (m->previous != NC_FLEET_NONE)
    nc_fleet_machine_mutable(f, m->previous)->next = m->next;
  else
    n->first_machine = m->next;
  n->machine_count--;
}

uint32_t
nc_fleet_add_machine(NcFleet *f, const NcMachineSpec *spec, GError **error)
{
  NcMachine m = { .need = spec->need, .node = spec->node, .reserved = NC_FLEET_NONE, .priority = spec->priority, .is_stopped = spec->is_stopped,
                  .guest = spec->guest };
  NcRoom room = nc_fleet_free_room(f, spec->node), share;
  guint gone = f->free_machines->len;
  uint32_t number = gone > 0 ? g_array_index(f->free_machines, uint32_t, gone - 1) : f->machines->len;

  nc_disks_of_machine(f, spec->disks, spec->disk_count, &m);
  share = nc_fleet_share(f, spec->node, &m.need);
  if (!nc_room_fits(&share, &room))
    nc_fail(error, NC_ERROR_RESOURCE, "machine \"%s\" does not fit on node \"%s\" with what is there already", spec->name,
            nc_fleet_node(f, spec->node)->name);
  else if (nc_fleet_labels(f, spec->requires, &m.requires, &m.require_count, error))
    m.name = nc_fleet_take_name(f->machine_names, number, "machine", spec->name, error);
  if (!m.name) {
    g_free(m.requires);
    g_free(m.disks);
    return NC_FLEET_NONE;
  }
  if (number == f->machines->len)
    g_array_append_val(f->machines, m);
  else
    g_array_set_size(f->free_machines, f->free_machines->len - 1);
  *nc_fleet_machine_mutable(f, number) = m;
  nc_fleet_use(f, spec->node, &share);
  nc_fleet_put(f, number, spec->node);
  return number;
}

bool
nc_fleet_reserve_again(NcFleet *f, uint32_t machine, uint32_t node)
{
  NcMachine *m = nc_fleet_machine_mutable(f, machine);
  NcRoom room = nc_fleet_free_room(f, node), share = nc_fleet_share(f, node, &m->need);

  if (m->reserved != NC_FLEET_NONE || m->node == node || !nc_room_fits(&share, &room))
    return false;
  nc_fleet_use(f, node, &share);
  nc_disks_promise(f, machine, node);
  m->reserved = node;
  return true;
}

bool
nc_fleet_reserve(NcFleet *f, uint32_t machine, uint32_t node)
{
  return nc_fleet_has_disk_room(f, machine, node, NULL) && nc_fleet_reserve_again(f, machine, node);
}

void
nc_fleet_unreserve(NcFleet *f, uint32_t machine)
{
  NcMachine *m = nc_fleet_machine_mutable(f, machine);

  if (m->reserved == NC_FLEET_NONE)
    return;
  NcRoom share = nc_fleet_share(f, m->reserved, &m->need);
  nc_fleet_give_back(f, m->reserved, &share);
  nc_disks_release(f, machine, m->reserved);
  m->reserved = NC_FLEET_NONE;
}

void
nc_fleet_arrive(NcFleet *f, uint32_t machine)
{
  NcMachine *m = nc_fleet_machine_mutable(f, machine);
  uint32_t node = m->reserved;

  g_return_if_fail(node != NC_FLEET_NONE);
  NcRoom share = nc_fleet_share(f, m->node, &m->need);
  nc_fleet_give_back(f, m->node, &share);
  nc_disks_settle(f, machine, node);
  nc_fleet_take(f, machine);
  m->reserved = NC_FLEET_NONE;
  nc_fleet_put(f, machine, node);
}

/* --- ways --- */

void
nc_fleet_way(const NcFleet *f, uint32_t from, uint32_t to, NcWayBetween *ret)
{
  uint32_t a = nc_fleet_node(f, from)->link, b = nc_fleet_node(f, to)->link;
  unsigned a_depth = nc_fleet_depth(f, a), b_depth = nc_fleet_depth(f, b);

  *ret = (NcWayBetween){ 0 };
  while (a != b) { /* the deeper one climbs; at the latest both end at NC_FLEET_NONE */
    if (a_depth >= b_depth) {
      ret->up[ret->up_count++] = a;
      ret->rtt_us += nc_fleet_link(f, a)->rtt_us;
      a = nc_fleet_link(f, a)->uplink;
      a_depth--;
    } else {
      ret->down[ret->down_count++] = b;
      ret->rtt_us += nc_fleet_link(f, b)->rtt_us;
      b = nc_fleet_link(f, b)->uplink;
      b_depth--;
    }
  }
}
