package libvirt

import (
	"context"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// job is a long operation that libvirt tells of in DomainGetJobInfo, and that can
// be aborted.
type job struct {
	began       time.Time
	total, done uint64
	fixed       bool          // cannot be aborted
	aborted     chan struct{} // closed by DomainAbortJob
}

// beginJob notes that a long operation is under way; unlock ends it.
func (d *Domain) beginJob() *job {
	d.job = &job{began: time.Now(), total: uint64(d.memory()) << 10, aborted: make(chan struct{})}
	return d.job
}

// waitJob is wait, which aborting the job ends too.
func (d *Domain) waitJob(ctx context.Context, gone chan struct{}, took time.Duration, what string) error {
	j := d.job
	d.server.mu.Unlock()
	t := time.NewTimer(took)
	aborted := false
	select {
	case <-t.C:
	case <-gone:
	case <-ctx.Done():
	case <-j.aborted:
		aborted = true
	}
	t.Stop()
	d.server.mu.Lock()
	if aborted {
		return fail(codeAborted, fromQEMU, "%s: canceled by client", what)
	}
	return d.alive(ctx, gone)
}

// jobUnbounded is VIR_DOMAIN_JOB_UNBOUNDED: nobody knows when it will end.
const jobUnbounded = 2

var jobProcedures = []procedure{
	remote(163, "DomainGetJobInfo", func(c *call, a *golibvirt.DomainGetJobInfoArgs) (ret golibvirt.DomainGetJobInfoRet, err error) {
		d, err := c.find(a.Dom)
		if err == nil && !d.active() {
			err = errNotRunning(fromDomain)
		}
		if err != nil || d.job == nil {
			return ret, err
		}
		ret.Type = jobUnbounded
		ret.TimeElapsed = uint64(time.Since(d.job.began).Milliseconds())
		ret.DataTotal, ret.DataProcessed, ret.DataRemaining = d.job.total, d.job.done, d.job.total-d.job.done
		ret.MemTotal, ret.MemProcessed, ret.MemRemaining = ret.DataTotal, ret.DataProcessed, ret.DataRemaining
		return ret, nil
	}),
	remote(298, "DomainGetJobStats", func(c *call, a *golibvirt.DomainGetJobStatsArgs) (ret jobStats, err error) {
		d, err := c.find(a.Dom)
		if err == nil && !d.active() {
			err = errNotRunning(fromDomain)
		}
		if err != nil || d.job == nil {
			return ret, err
		}
		ret.Type = jobUnbounded
		ret.Params = []typedParam{
			{"time_elapsed", uint64(time.Since(d.job.began).Milliseconds())},
			{"data_total", d.job.total}, {"data_processed", d.job.done}, {"data_remaining", d.job.total - d.job.done},
		}
		return ret, nil
	}),
	remote(164, "DomainAbortJob", func(c *call, a *golibvirt.DomainAbortJobArgs) (none, error) {
		d, err := c.find(a.Dom)
		switch {
		case err != nil:
			return none{}, err
		case !d.active():
			return none{}, errNotRunning(fromDomain)
		case d.job == nil:
			return none{}, fail(codeInvalid, fromQEMU, "no job is active on the domain")
		case d.job.fixed:
			return none{}, fail(codeInvalid, fromQEMU, "cannot abort memory-only dump")
		}
		select {
		case <-d.job.aborted:
		default:
			close(d.job.aborted)
		}
		return none{}, nil
	}),
}

// jobStats is remote_domain_get_job_stats_ret.
type jobStats struct {
	Type   int32
	Params []typedParam
}
