"""What an image build is, whoever calls: the spec, the plan, the lifecycle and the workers, and the ports they use."""
