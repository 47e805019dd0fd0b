/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame of the migration stream: file header, configuration, sections,
 * footers, commands, end.
 *
 *   header [configuration] { command | section footer | package }* then
 *   device state (opaque), or EOF where no device state came before it
 *
 * A section names its handler once, in START; PART and END only repeat its id.
 */
#include "qemu/stream_state.h"

static const uint8_t file_header[] = { 'Q', 'E', 'V', 'M', 0, 0, 0, 3 };

/* Each has a set of capabilities that must match; QEMU lists a handful. */
enum { CAPABILITIES_MAX = 64, UUID_BYTES = 16, TARGET_PAGE_BITS = 12 };

/*
 * The first bytes tell the kinds of channel apart. Anything but our two is
 * passed on as soon as its first byte differs: nobody may wait for it here.
 */
NcStep
nc_stream_step_header(NcStreamParser *p, NcStreamScan *s)
{
  size_t there = MIN(nc_reader_left(&s->in), sizeof file_header);
  const uint8_t *start;

  if (nc_stream_peek(s) == NC_ELEMENT_COMMAND) { /* a recovery starts with a command */
    p->state = NC_STATE_ELEMENT;
    p->orphan = p->handler_count == 0;
    return NC_STEP_DONE;
  }
  start = nc_reader_take(&s->in, there);
  if (memcmp(start, file_header, there) != 0)
    return nc_stream_foreign(p, "not the header of a migration stream of version 3");
  if (there < sizeof file_header)
    return NC_STEP_MORE;
  p->state = NC_STATE_CONFIGURATION;
  return NC_STEP_DONE;
}

NcStep
nc_stream_step_configuration(NcStreamParser *p, NcStreamScan *s)
{
  uint8_t type;
  uint32_t length;
  const uint8_t *name;

  if (nc_stream_peek(s) != NC_ELEMENT_CONFIGURATION) { /* machine types before 2.4 */
    p->state = NC_STATE_ELEMENT;
    return NC_STEP_DONE;
  }
  if (!nc_reader_u8(&s->in, &type) || !nc_reader_u32(&s->in, &length))
    return NC_STEP_MORE;
  if (length == 0 || length > NC_STREAM_NAME_MAX)
    return nc_stream_foreign(p, "machine type of %" G_GUINT32_FORMAT " bytes", length);
  if (!(name = nc_reader_take(&s->in, length)))
    return NC_STEP_MORE;
  g_free(p->machine_type);
  p->machine_type = nc_stream_name_escape(&(NcStreamName){ .text = (const char *)name, .length = (uint8_t)length });
  p->state = NC_STATE_CONFIG_SUBSECTION;
  return NC_STEP_DONE;
}

static NcStep
config_page_bits(NcStreamParser *p, NcStreamScan *s)
{
  uint32_t bits;

  if (!nc_reader_u32(&s->in, &bits))
    return NC_STEP_MORE;
  if (bits != TARGET_PAGE_BITS)
    return nc_stream_foreign(p, "target pages of 2^%" G_GUINT32_FORMAT " bytes", bits);
  return NC_STEP_DONE;
}

static NcStep
config_capabilities(NcStreamParser *p, NcStreamScan *s)
{
  uint32_t count;

  if (!nc_reader_u32(&s->in, &count))
    return NC_STEP_MORE;
  if (count > CAPABILITIES_MAX)
    return nc_stream_foreign(p, "a list of %" G_GUINT32_FORMAT " capabilities", count);
  p->capabilities_left = count;
  if (count > 0)
    p->state = NC_STATE_CONFIG_CAPABILITY;
  return NC_STEP_DONE;
}

static NcStep
config_uuid(NcStreamParser *p, NcStreamScan *s)
{
  return nc_reader_take(&s->in, UUID_BYTES) ? NC_STEP_DONE : NC_STEP_MORE;
}

static const struct {
  const char *name;
  NcStepFunc body;
} config_subsections[] = {
  { "configuration/target-page-bits", config_page_bits },
  { "configuration/capabilities", config_capabilities },
  { "configuration/uuid", config_uuid },
};

NcStep
nc_stream_step_config_subsection(NcStreamParser *p, NcStreamScan *s)
{
  uint8_t type;
  NcStreamName name;
  uint32_t version;

  if (nc_stream_peek(s) != NC_ELEMENT_SUBSECTION) {
    p->state = NC_STATE_ELEMENT;
    return NC_STEP_DONE;
  }
  if (!nc_reader_u8(&s->in, &type) || !nc_stream_read_name(&s->in, &name) || !nc_reader_u32(&s->in, &version))
    return NC_STEP_MORE;
  for (size_t i = 0; version == 1 && i < G_N_ELEMENTS(config_subsections); i++)
    if (nc_stream_name_is(&name, config_subsections[i].name))
      return config_subsections[i].body(p, s);
  g_autofree char *text = nc_stream_name_escape(&name);
  return nc_stream_foreign(p, "unknown configuration \"%s\" version %" G_GUINT32_FORMAT, text, version);
}

/* A capability is listed because it changes the stream: one that is not known here may change anything. */
NcStep
nc_stream_step_config_capability(NcStreamParser *p, NcStreamScan *s)
{
  NcStreamName name;

  if (!nc_stream_read_name(&s->in, &name))
    return NC_STEP_MORE;
  if (!nc_stream_name_is(&name, "x-ignore-shared")) {
    g_autofree char *text = nc_stream_name_escape(&name);
    return nc_stream_foreign(p, "unknown capability \"%s\"", text);
  }
  p->ignore_shared = true;
  p->capabilities_left--;
  if (p->capabilities_left == 0)
    p->state = NC_STATE_CONFIG_SUBSECTION;
  return NC_STEP_DONE;
}

static const NcStreamHandler *
find_handler(const NcStreamParser *p, uint32_t section)
{
  for (size_t i = 0; i < p->handler_count; i++)
    if (p->handlers[i].section == section)
      return &p->handlers[i];
  return NULL;
}

typedef struct {
  uint32_t section;
  NcStreamName name;
  uint32_t instance;
  uint32_t version;
} SectionHeader;

static bool
read_section_header(NcReader *r, SectionHeader *ret)
{
  uint8_t type;

  return nc_reader_u8(r, &type) && nc_reader_u32(r, &ret->section) && nc_stream_read_name(r, &ret->name) &&
         nc_reader_u32(r, &ret->instance) && nc_reader_u32(r, &ret->version);
}

static NcStep
foreign_section(NcStreamParser *p, const char *what, const SectionHeader *header)
{
  g_autofree char *text = nc_stream_name_escape(&header->name);

  return nc_stream_foreign(p, "%s \"%s\" instance %" G_GUINT32_FORMAT " version %" G_GUINT32_FORMAT, what, text,
                           header->instance, header->version);
}

static const struct {
  const char *name;
  uint32_t version;
  NcHandlerKind kind;
  NcStreamState payload;
} handlers[] = {
  { "ram", 4, NC_HANDLER_RAM, NC_STATE_RAM_SETUP },
  { "dirty-bitmap", 1, NC_HANDLER_BITMAP, NC_STATE_BITMAP_CHUNK },
};

static NcStep
element_start(NcStreamParser *p, NcStreamScan *s)
{
  SectionHeader header;
  size_t i = 0;

  if (!read_section_header(&s->in, &header))
    return NC_STEP_MORE;
  while (i < G_N_ELEMENTS(handlers) && !nc_stream_name_is(&header.name, handlers[i].name))
    i++;
  if (i == G_N_ELEMENTS(handlers) || header.version != handlers[i].version || header.instance != 0)
    return foreign_section(p, "unknown section", &header);
  if (find_handler(p, header.section) || p->handler_count == NC_STREAM_HANDLERS_MAX)
    return foreign_section(p, "second or surplus section", &header);
  if (handlers[i].kind == NC_HANDLER_RAM && p->blocks->len > 0)
    return foreign_section(p, "second list of RAM in section", &header);
  p->handlers[p->handler_count++] = (NcStreamHandler){ .section = header.section, .kind = handlers[i].kind };
  p->section = header.section;
  p->state = handlers[i].payload;
  return NC_STEP_DONE;
}

/* Of an orphan the first section is taken for RAM: in post-copy hardly anything else is left, and that would not parse. */
static const NcStreamHandler *
adopt_section(NcStreamParser *p, uint32_t section)
{
  if (!p->orphan || p->handler_count > 0)
    return NULL;
  p->handlers[p->handler_count++] = (NcStreamHandler){ .section = section, .kind = NC_HANDLER_RAM };
  return &p->handlers[0];
}

/* PART and END alike: END's payload has the same form, and what follows decides by itself. */
static NcStep
element_part(NcStreamParser *p, NcStreamScan *s)
{
  uint8_t type;
  uint32_t section;
  const NcStreamHandler *handler;

  if (!nc_reader_u8(&s->in, &type) || !nc_reader_u32(&s->in, &section))
    return NC_STEP_MORE;
  if (!(handler = find_handler(p, section)))
    handler = adopt_section(p, section);
  if (!handler)
    return nc_stream_foreign(p, "section id %" G_GUINT32_FORMAT " that was never started", section);
  p->in_setup = false;
  p->section = section;
  p->state = handler->kind == NC_HANDLER_RAM ? NC_STATE_RAM_RECORD : NC_STATE_BITMAP_CHUNK;
  return NC_STEP_DONE;
}

/* "virtio-mem-device-early", with the device's path in front of it on machines that give it one. */
static bool
is_early_virtio_mem(const NcStreamName *name)
{
  g_autofree char *text = g_strndup(name->text, name->length);
  const char *slash = strrchr(text, '/');

  return strlen(text) == name->length && !strcmp(slash ? slash + 1 : text, "virtio-mem-device-early");
}

/*
 * Device state has no length: the end of what can be parsed, except for the
 * one device that saves some of its state during setup. After setup nothing
 * has to be known about the section, so not even its header is waited for.
 */
static NcStep
element_full(NcStreamParser *p, NcStreamScan *s)
{
  SectionHeader header;

  if (!p->in_setup)
    return nc_stream_foreign(p, "device state");
  if (!read_section_header(&s->in, &header))
    return NC_STEP_MORE;
  if (!is_early_virtio_mem(&header.name) || header.version != 1)
    return foreign_section(p, "device state", &header);
  p->section = header.section;
  p->state = NC_STATE_VIRTIO_MEM;
  return NC_STEP_DONE;
}

static NcStep
element_eof(NcStreamParser *p, NcStreamScan *s)
{
  nc_reader_take(&s->in, 1);
  p->state = NC_STATE_AFTER_EOF;
  return NC_STEP_DONE;
}

enum {
  COMMAND_ADVISE = 3,
  COMMAND_DISCARD = 6,
  COMMAND_PACKAGED = 7,
  COMMAND_RECV_BITMAP = 10,
  COMMAND_COUNT = 12,
  ADVISE_BYTES = 16,
};

/* Permitted payload lengths; the index is the command. */
static const struct {
  uint16_t minimum;
  uint16_t maximum;
} command_lengths[COMMAND_COUNT] = {
  [0] = { 1, 0 },  /* no such command */
  [1] = { 0, 0 },  /* OPEN_RETURN_PATH */
  [2] = { 4, 4 },  /* PING */
  [COMMAND_ADVISE] = { 0, ADVISE_BYTES },
  [4] = { 0, 0 },  /* POSTCOPY_LISTEN */
  [5] = { 0, 0 },  /* POSTCOPY_RUN */
  [COMMAND_DISCARD] = { 4, UINT16_MAX },
  [COMMAND_PACKAGED] = { 4, 4 },
  [8] = { 0, 0 },  /* ENABLE_COLO */
  [9] = { 0, 0 },  /* POSTCOPY_RESUME */
  [COMMAND_RECV_BITMAP] = { 2, 1 + NC_STREAM_NAME_MAX },
  [11] = { 0, 0 }, /* SWITCHOVER_START */
};

/* The OR of all page sizes of RAM blocks: whether setup lists any that is not the ordinary one. */
static NcStep
command_advise(NcStreamParser *p, NcReader *in, uint16_t length)
{
  uint64_t page_sizes, target_page;

  if (length == 0) /* only bitmaps do post-copy */
    return NC_STEP_DONE;
  if (length != ADVISE_BYTES)
    return nc_stream_foreign(p, "POSTCOPY_ADVISE of %u bytes", length);
  if (!nc_reader_u64(in, &page_sizes) || !nc_reader_u64(in, &target_page))
    return NC_STEP_MORE;
  if (target_page != NC_STREAM_PAGE_BYTES)
    return nc_stream_foreign(p, "target pages of %" G_GUINT64_FORMAT " bytes", target_page);
  p->huge_pages = page_sizes != NC_STREAM_PAGE_BYTES;
  return NC_STEP_DONE;
}

/* The package holds device state and has a length: passed over, and parsing goes on behind it. */
static NcStep
command_packaged(NcStreamParser *p, NcReader *in)
{
  uint32_t length;

  if (!nc_reader_u32(in, &length))
    return NC_STEP_MORE;
  p->skip = length;
  p->skip_kind = NC_SKIP_PACKAGE;
  p->in_setup = false;
  return NC_STEP_DONE;
}

static bool
discard_range(const NcStreamParser *p, NcReader *r, uint32_t block, NcStreamRange *ret)
{
  uint64_t used = g_array_index(p->blocks, NcStreamBlock, block).used_length;

  *ret = (NcStreamRange){ .block = block };
  return nc_reader_u64(r, &ret->start) && nc_reader_u64(r, &ret->length) && ret->length > 0 &&
         (ret->start | ret->length) % NC_STREAM_PAGE_BYTES == 0 && ret->start < used && ret->length <= used - ret->start;
}

/* A version, a name with its NUL, and ranges. Only a hint to our users: QEMU is the judge of what makes no sense. */
void
nc_stream_take_discard(NcStreamParser *p)
{
  NcReader r = nc_reader(p->discard->data, p->discard->len);
  guint known = p->discards->len;
  NcStreamName name;
  NcStreamRange range;
  uint8_t version, nul;

  if (!nc_reader_u8(&r, &version) || version != 0 || !nc_stream_read_name(&r, &name) || !nc_reader_u8(&r, &nul) || nul != 0)
    return;
  uint32_t block = nc_stream_find_block(p, &name);
  if (block == NC_STREAM_NO_BLOCK)
    return;
  while (nc_reader_left(&r) > 0) {
    if (!discard_range(p, &r, block, &range)) {
      g_array_set_size(p->discards, known);
      return;
    }
    if (p->discards->len < NC_STREAM_DISCARDS_MAX)
      g_array_append_val(p->discards, range);
  }
}

static NcStep
element_command(NcStreamParser *p, NcStreamScan *s)
{
  uint8_t type;
  uint16_t command, length;

  if (!nc_reader_u8(&s->in, &type) || !nc_reader_u16(&s->in, &command) || !nc_reader_u16(&s->in, &length))
    return NC_STEP_MORE;
  if (command >= COMMAND_COUNT || length < command_lengths[command].minimum ||
      length > command_lengths[command].maximum)
    return nc_stream_foreign(p, "unknown command %u with %u bytes", command, length);
  if (command == COMMAND_ADVISE)
    return command_advise(p, &s->in, length);
  if (command == COMMAND_PACKAGED)
    return command_packaged(p, &s->in);
  p->skip = length;
  if (command == COMMAND_DISCARD) {
    g_byte_array_set_size(p->discard, 0);
    p->skip_kind = NC_SKIP_DISCARD;
  }
  return NC_STEP_DONE;
}

static const NcStepFunc elements[] = {
  [NC_ELEMENT_EOF] = element_eof,   [NC_ELEMENT_START] = element_start, [NC_ELEMENT_PART] = element_part,
  [NC_ELEMENT_END] = element_part,  [NC_ELEMENT_FULL] = element_full,   [NC_ELEMENT_SUBSECTION] = NULL,
  [NC_ELEMENT_DESCRIPTION] = NULL,  [NC_ELEMENT_CONFIGURATION] = NULL,  [NC_ELEMENT_COMMAND] = element_command,
};

NcStep
nc_stream_step_element(NcStreamParser *p, NcStreamScan *s)
{
  uint8_t type = nc_stream_peek(s);

  if (type >= G_N_ELEMENTS(elements) || !elements[type])
    return nc_stream_foreign(p, "unknown element 0x%02x", type);
  return elements[type](p, s);
}

/*
 * Old machine types write no footers, and nothing says so: the first payload's
 * end shows it. No element starts with a footer's byte.
 */
NcStep
nc_stream_step_footer(NcStreamParser *p, NcStreamScan *s)
{
  uint8_t type;
  uint32_t section;
  bool found = nc_stream_peek(s) == NC_ELEMENT_FOOTER;

  if (p->footers != NC_FOOTERS_UNKNOWN && found != (p->footers == NC_FOOTERS_PRESENT))
    return nc_stream_foreign(p, "a section footer %s", found ? "where there are none" : "is missing");
  if (found && (!nc_reader_u8(&s->in, &type) || !nc_reader_u32(&s->in, &section)))
    return NC_STEP_MORE;
  if (found && section != p->section)
    return nc_stream_foreign(p, "the footer of section id %" G_GUINT32_FORMAT " behind section id %" G_GUINT32_FORMAT,
                             section, p->section);
  p->footers = found ? NC_FOOTERS_PRESENT : NC_FOOTERS_ABSENT;
  p->state = NC_STATE_ELEMENT;
  return NC_STEP_DONE;
}

NcStep
nc_stream_step_after_eof(NcStreamParser *p, NcStreamScan *s)
{
  uint8_t type;
  uint32_t length;

  if (nc_stream_peek(s) != NC_ELEMENT_DESCRIPTION)
    return nc_stream_foreign(p, "bytes after the end");
  if (!nc_reader_u8(&s->in, &type) || !nc_reader_u32(&s->in, &length))
    return NC_STEP_MORE;
  p->skip = length;
  p->state = NC_STATE_END;
  return NC_STEP_DONE;
}

NcStep
nc_stream_step_end(NcStreamParser *p, NcStreamScan *s)
{
  return nc_stream_foreign(p, "bytes after the end");
}
