//go:build linux

package conformance_test

import (
	"context"
	"testing"
	"time"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// careful embeds the QEMU driver, and looks at what runs before it is stopped.
type careful struct{ *qemu.Machinery }

func (c careful) Stop(ctx context.Context, name string) error {
	looking, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if status, err := c.State(looking, name); err == nil && status.State == machinery.StateRunning {
		_, _ = c.Screenshot(looking, name)
	}
	return c.Machinery.Stop(ctx, name)
}

// carefulDriver has a name and a schema of its own, and loads its machines itself.
func carefulDriver() machinery.Driver {
	schema := *qemu.Schema()
	schema.Name = "careful"
	return machinery.Driver{Name: "careful", Schema: &schema, Template: qemu.Template,
		Open: func(ctx context.Context, doc *config.Document, o machinery.Options) (machinery.Machinery, error) {
			c := qemu.FromDocument(doc)
			c.LoadTimeout = min(c.LoadTimeout, time.Minute)
			inner, err := qemu.New(ctx, c, o)
			if err != nil {
				return nil, err
			}
			return careful{inner}, nil
		}}
}

func TestADriverThatEmbedsTheQEMUDriverIsConformantOnTheFake(t *testing.T) {
	conformance.Run(t, conformance.Subject{Driver: carefulDriver(), Lab: fakeLab(t), RequireAll: true})
}
