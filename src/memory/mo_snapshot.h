/* mo_snapshot.h - what mo_track saw as a memory snapshot of PyTorch, for its viewer. */
#ifndef MEMOPT_SNAPSHOT_H
#define MEMOPT_SNAPSHOT_H

#include "mo_base.h"
#include "mo_track.h"

/* mo_snapshot_write - the live blocks and the events kept, as the pickle that
 * torch.cuda.memory._dump_snapshot writes. It opens on pytorch.org/memory_viz and in
 * torch.cuda._memory_viz; neither needs a GPU.
 *
 * allocator  for tables, during the call only; NULL = heap
 * writer     gets bytes, so its file is opened as binary
 *
 * Each block has its category, and one frame: file and line, or its category and name. What was
 * live before the events kept begins with them. Failed allocations are events; marks and stages
 * are not in the format. Addresses are the blocks' keys; where these cannot be addresses, as live
 * blocks would overlap, first-fit addresses from 0 on. Ranges up to 64 KiB apart are one segment.
 * Names are written as ASCII, other characters as '?'. Blocks of 0 bytes, and those that found the
 * table full, are left out. Category other is called unknown, which the viewer wants to be there.
 *
 * Memory:  80 bytes per event kept, 96 per live block
 * Threads: one at a time; the track must not change meanwhile
 * Errors:  MO_E_INVALID (NULL), MO_E_OVERFLOW (more than 2^53 bytes), MO_E_NO_MEMORY, MO_E_IO (the
 *          writer refused)
 * Cost:    events times blocks that are live; about 400 bytes per event
 * Source:  torch/cuda/_memory_viz.py, torch/utils/viz/MemoryViz.js
 * Since:   0.1 */
MEMOPT_API mo_status mo_snapshot_write(
    const mo_track *track, const mo_allocator *allocator, const mo_writer *writer);

#endif
