/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store_damage.h"

#include <string.h>

/* Places that are told one by one; one damaged record can take many pages. */
#define NC_DETAILS_MAX 100u
/* Checkpoints that are named in the sentence; all of them are in `damaged`. */
#define NC_NAMED_MAX 20u

typedef struct {
  uint64_t pages, bytes;
  char *text; /* of the first finding */
} NcLoss;

struct NcStoreDamage {
  GTree *losses;   /* name of a manifest -> NcLoss; sorted, so that the oldest checkpoint comes first */
  json_t *details; /* array */
};

static void
nc_loss_free(gpointer data)
{
  NcLoss *loss = data;
  g_free(loss->text);
  g_free(loss);
}

static gint
nc_store_damage_compare(gconstpointer a, gconstpointer b, gpointer data)
{
  return strcmp(a, b);
}

NcStoreDamage *
nc_store_damage_new(void)
{
  NcStoreDamage *damage = g_new0(NcStoreDamage, 1);

  damage->losses = g_tree_new_full(nc_store_damage_compare, NULL, g_free, nc_loss_free);
  damage->details = json_array();
  return damage;
}

static void
nc_store_damage_note_loss(NcStoreDamage *damage, const NcPageStoreFinding *finding)
{
  NcLoss *loss = g_tree_lookup(damage->losses, finding->manifest);

  if (!loss) {
    loss = g_new0(NcLoss, 1);
    loss->text = g_strdup(finding->text);
    g_tree_insert(damage->losses, g_strdup(finding->manifest), loss);
  }
  if (finding->kind == NC_FINDING_LOST) {
    loss->pages++;
    loss->bytes += finding->length;
  }
}

void
nc_store_damage_note(const NcPageStoreFinding *finding, gpointer data)
{
  NcStoreDamage *damage = data;

  if (finding->manifest)
    nc_store_damage_note_loss(damage, finding);
  /* Pages are told with their pack, and with who misses them. */
  if (finding->kind == NC_FINDING_LOST || finding->kind == NC_FINDING_BLOCK || json_array_size(damage->details) >= NC_DETAILS_MAX)
    return;
  json_array_append_new(damage->details,
                        json_pack("{s:s, s:s, s:I, s:s}", "kind", nc_finding_kind_name(finding->kind), "file",
                                  finding->file ? finding->file : "", "offset", (json_int_t)finding->offset, "text", finding->text));
}

/* Whose checkpoint it is; NULL: not known. Caller frees. */
static char *
nc_store_damage_machine(NcCheckpoints *checkpoints, const char *id)
{
  nc_autojson json_t *args = json_pack("{s:s}", "id", id);
  nc_autojson json_t *cp = checkpoints && args ? nc_checkpoints_get(checkpoints, args, NULL) : NULL;
  const char *machine = nc_json_string_or(cp, "machine", "");

  return machine[0] ? g_strdup(machine) : NULL;
}

typedef struct {
  NcCheckpoints *checkpoints;
  json_t *list;
} NcDescribe;

static gboolean
nc_store_damage_describe_one(gpointer key, gpointer value, gpointer data)
{
  const NcLoss *loss = value;
  NcDescribe *to = data;
  g_autofree char *machine = nc_store_damage_machine(to->checkpoints, key);

  json_array_append_new(to->list, json_pack("{s:s, s:s?, s:I, s:I, s:s}", "checkpoint", (const char *)key, "machine", machine, "pages",
                                            (json_int_t)loss->pages, "bytes", (json_int_t)loss->bytes, "text", loss->text));
  return FALSE;
}

void
nc_store_damage_describe(const NcStoreDamage *damage, NcCheckpoints *checkpoints, json_t *result)
{
  NcDescribe to = { .checkpoints = checkpoints, .list = json_array() };

  g_tree_foreach(damage->losses, nc_store_damage_describe_one, &to);
  json_object_set_new(result, "damaged", to.list);
  json_object_set(result, "details", damage->details);
}

static void
nc_store_damage_append_one(GString *text, json_t *one, const char *between)
{
  const char *machine = nc_json_string_or(one, "machine", NULL);
  int64_t pages = nc_json_int_or(one, "pages", 0);

  g_string_append_printf(text, "%s%s", between, nc_json_string_or(one, "checkpoint", "?"));
  if (machine)
    g_string_append_printf(text, " of %s", machine);
  if (pages)
    g_string_append_printf(text, " (%" G_GINT64_FORMAT " pages)", pages);
}

char *
nc_store_damage_text(json_t *result)
{
  json_t *damaged = json_object_get(result, "damaged");
  size_t count = json_array_size(damaged);
  GString *text = g_string_new(NULL);

  if (count == 0) {
    g_string_append_printf(text,
                           "in %" G_GINT64_FORMAT " places, but no checkpoint loses anything (`novacron store verify --rebuild-index` mends "
                           "the index; of packs, only what is needed by nobody is damaged)",
                           nc_json_int_or(result, "findings", 0));
    return g_string_free(text, FALSE);
  }
  g_string_append(text, count == 1 ? "a checkpoint loses something: " : "checkpoints lose something: ");
  for (size_t i = 0; i < MIN(count, NC_NAMED_MAX); i++)
    nc_store_damage_append_one(text, json_array_get(damaged, i), i ? ", " : "");
  if (count > NC_NAMED_MAX)
    g_string_append_printf(text, " and %zu more", count - NC_NAMED_MAX);
  g_string_append(text, "; all others are whole. What of it is lost, `novacron checkpoint verify ID` says. Bring the damaged files back "
                        "from a backup with novacrond stopped, or delete these checkpoints");
  return g_string_free(text, FALSE);
}

void
nc_store_damage_free(NcStoreDamage *damage)
{
  if (!damage)
    return;
  g_tree_unref(damage->losses);
  json_decref(damage->details);
  g_free(damage);
}
