//go:build linux

package qemulab_test

import (
	"context"
	"os"
	"testing"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/qemulab"
	"github.com/machineries/machineries/drivers/qemu"
	fakeqemu "github.com/machineries/machineries/fakes/qemu"
)

func TestMain(m *testing.M) {
	fakeqemu.Main()
	os.Exit(m.Run())
}

var lab, labErr = qemulab.New(context.Background(), qemulab.Options{})

// The suite as a part of a tree that someone else has.
var _ = ginkgo.Describe("a tree of someone's own", func() {
	ginkgo.It("has specs of its own", func() { gomega.Expect(labErr).NotTo(gomega.HaveOccurred()) })

	conformance.Register(conformance.Subject{Driver: qemu.Driver(), Lab: lab, Only: []string{"MM-LOAD-*", "MM-PAUSED-*"}})
})

var _ = ginkgo.AfterSuite(func() { gomega.Expect(lab.Close()).To(gomega.Succeed()) })

func TestTheSuiteRunsInAForeignTree(t *testing.T) {
	gomega.RegisterFailHandler(ginkgo.Fail)
	ginkgo.RunSpecs(t, "A foreign tree")
}
