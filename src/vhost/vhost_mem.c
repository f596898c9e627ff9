/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory and the dirty log. The rings are halted while either changes; those whose addresses are mapped
 * afterwards go on, the others wait until they are. */
#include <errno.h>
#include <inttypes.h>

#include "vhost/vhost_priv.h"

static struct gmem_region_conf region_conf(const struct vhost_wire_region *w)
{
	return (struct gmem_region_conf){
		.gpa.v = w->gpa,
		.uva.v = w->uva,
		.size_bytes = w->size,
		.mmap_offset_bytes = w->mmap_offset,
	};
}

static int remove_all(struct gmem *mem, struct err *e)
{
	while (mem->n_regions) {
		const struct gmem_region *r = mem->region[mem->n_regions - 1];
		struct gmem_region_conf c = {.gpa = r->gpa, .uva = r->uva, .size_bytes = r->size_bytes};
		int rc = gmem_remove(mem, &c, e);

		if (rc < 0)
			return rc;
	}
	return 0;
}

int vhost_set_mem_table(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	const struct vhost_wire_mem_table *t = &m->p.table;
	int rc;

	if (t->n > VHOST_TABLE_REGIONS_MAX || m->h.size != VHOST_TABLE_HEAD_BYTES + t->n * sizeof(t->region[0]))
		return err_set(e, -EPROTO, NULL, NULL, "%" PRIu32 " regions in a payload of %" PRIu32 " bytes", t->n,
			       m->h.size);
	if (m->n_fds != t->n)
		return err_set(e, -EPROTO, NULL, NULL, "%" PRIu32 " regions and %u descriptors", t->n, m->n_fds);
	vhost_rings_halt(v);
	rc = remove_all(v->mem, e);
	for (unsigned i = 0; i < t->n && rc == 0; i++) {
		struct gmem_region_conf c = region_conf(&t->region[i]);

		rc = gmem_add(v->mem, &c, m->fd[i], e);
	}
	return rc < 0 ? rc : vhost_rings_try(v, e);
}

/* QEMU 7.2 keeps a table for every queue pair and sends all of them: the same region may be added again, or removed
 * once more. */
int vhost_add_mem_reg(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	struct gmem_region_conf c = region_conf(&m->p.reg.region);
	int rc;

	vhost_rings_halt(v);
	rc = gmem_add(v->mem, &c, m->fd[0], e);
	return rc < 0 && rc != -EEXIST ? rc : vhost_rings_try(v, e);
}

int vhost_rem_mem_reg(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	struct gmem_region_conf c = region_conf(&m->p.reg.region);
	int rc;

	vhost_rings_halt(v);
	rc = gmem_remove(v->mem, &c, e);
	return rc < 0 && rc != -ENOENT ? rc : vhost_rings_try(v, e);
}

int vhost_get_max_mem_slots(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	(void)v;
	(void)e;
	m->p.u64 = GMEM_REGIONS_MAX;
	m->reply_bytes = sizeof(m->p.u64);
	return 0;
}

int vhost_set_log_base(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	int rc;

	vhost_rings_halt(v);
	rc = gmem_log_set(v->mem, m->fd[0], m->p.log.size, m->p.log.offset, e);
	if (rc < 0 || (rc = vhost_rings_try(v, e)) < 0)
		return rc;
	m->p.u64 = 0;
	m->reply_bytes = sizeof(m->p.u64);
	return 0;
}

/* "It may be used to inform the front-end that the log has been modified": front ends look at the log by themselves. */
int vhost_set_log_fd(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	(void)v;
	(void)m;
	(void)e;
	return 0;
}
